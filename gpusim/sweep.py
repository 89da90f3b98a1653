"""Search for good values: ``python -m gpusim.sweep --env ant --space sweep.yaml --out runs/sweep``.

Ray Tune chooses and schedules, each trial is a run of ours in a folder of its own. The same command
goes on with a sweep that was interrupted, and a trial that fails goes on from its last checkpoint.
"""

import argparse
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gpusim import config, shell
from gpusim.config import ConfigError, TrainConfig
from gpusim.parse import Words, flags, yaml_of
from gpusim.run import archive

KINDS = {
    "grid": "grid_search", "choice": "choice", "uniform": "uniform", "loguniform": "loguniform",
    "randint": "randint",
}  # fmt: skip
"""How the file says what Ray Tune calls otherwise; all but `grid` are drawn."""
RANGES = ("uniform", "loguniform", "randint")
METRIC = "evaluation_return"
Space = Mapping[str, tuple[str, list[Any]]]  # flag -> one of KINDS, its numbers
Said = Sequence[tuple[str, Words]]


@shell.command("gpusim.sweep")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 if trials failed, 2 for what was not understood."""
    options, rest = _parser().parse_known_args(argv)
    try:
        said = flags(rest)
        space = read(options.space)
        example = trial_config(said, {name: values[0] for name, (_, values) in space.items()})
        example.check(1)
        if options.scheduler == "pbt" and any(kind == "grid" for kind, _ in space.values()):
            raise ConfigError("--scheduler pbt changes values on the way: a grid cannot be kept")
        try:
            import ray  # noqa: F401  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ConfigError("a sweep needs Ray: pip install 'ray[tune]'") from None
    except ValueError as error:  # a ConfigError is one
        return shell.complain("gpusim.sweep", error)
    results = _tune(options, said, space, example)
    shell.say(table(results, space))
    return 1 if results.errors else 0


def read(file: Path) -> Space:
    """What a file says may vary: `learning_rate: {loguniform: [1e-4, 1e-2]}`, a flag a line.

    Raises ConfigError for what is not of this form.
    """
    try:
        said = yaml_of(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(said, dict) or not said:
        raise ConfigError(f"{file}: expected names and what they may be")
    space = {}
    for name, value in said.items():
        kind, values = next(iter(value.items())) if _single(value) else ("", None)
        pair = kind in RANGES
        if kind not in KINDS or not isinstance(values, list) or len(values) < 1 + pair:
            raise ConfigError(
                f"{file}: {name}: expected one of {', '.join(KINDS)} with a list, such as "
                "{choice: [1, 2]} or {uniform: [0, 1]}"
            )
        values = [_number(v) if isinstance(v, str) else v for v in values]
        if pair and not _bounds(values, above_zero=kind == "loguniform"):
            above = ", above 0" * (kind == "loguniform")
            raise ConfigError(
                f"{file}: {name}: {kind} is between two numbers, the lower first{above}, "
                f"not {values}"
            )
        space[str(name)] = (kind, values)
    return space


def _bounds(values: list[Any], *, above_zero: bool) -> bool:
    """Are these the ends of a range?"""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    finite = len(values) == len(numbers) == 2 and all(map(math.isfinite, numbers))
    return finite and numbers[0] < numbers[1] and (numbers[0] > 0 or not above_zero)


def _number(word: str) -> float | str:
    """YAML takes 1e-4 for a word."""
    try:
        return float(word)
    except ValueError:
        return word


def within(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values in the ranges that were asked for: population based training multiplies them by 1.2,
    whatever comes of it."""
    held = dict(values)
    for name, (kind, bounds) in space.items():
        if kind in RANGES:
            held[name] = min(max(values[name], bounds[0]), bounds[1] - (kind == "randint"))
    return held


def _single(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1


def trial_config(said: Said, values: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a trial: what the command line says, and its own values as flags."""
    words = lambda value: Words(map(str, value if isinstance(value, list) else [value]))
    own = [(name.replace("-", "_"), words(value)) for name, value in values.items()]
    return config.merge([], [*said, *own])


def trial(
    values: Mapping[str, Any], *, said: Said, space: Space, folder: Path, cpus: int, keep: bool
) -> None:
    """One run, in a process of Ray's: it goes on from the checkpoint that Ray has for it, which may
    be another trial's, or from its own.

    keep: give Ray the newest checkpoint with each evaluation; it is of the call before.
    """
    os.environ["GPUSIM_THREADS"] = str(cpus)  # before JAX begins; other trials have the others
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        count = f"--xla_force_host_platform_device_count={cpus}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()

    from ray import tune  # pyright: ignore[reportMissingImports]

    from gpusim.run import sinks, training

    run = folder / tune.get_context().get_trial_id()
    checkpoints = run / "checkpoints"
    if given := tune.get_checkpoint():
        shutil.rmtree(checkpoints, ignore_errors=True)
        with given.as_directory() as theirs:
            shutil.copytree(theirs, checkpoints)

    class Reporter:
        def write(self, row: sinks.Row) -> None:
            if METRIC not in row.values:
                return
            reached = {"steps": row.steps, METRIC: row.values[METRIC]}
            saved = archive.checkpoints(checkpoints) if keep else []
            if not saved:
                return tune.report(reached)
            with tempfile.TemporaryDirectory() as given:
                shutil.copy(saved[-1], given)
                tune.report(reached, checkpoint=tune.Checkpoint.from_directory(given))

        def close(self) -> None: ...

    resume = bool(archive.checkpoints(checkpoints))
    settings = trial_config(said, within(space, values))
    if resume and archive.newest(checkpoints)[1].step >= settings.learner.total_steps:
        return
    done = training.train(
        settings, run, resume=resume, display=sinks.Nowhere(), listeners=[Reporter()]
    )
    if done.diverged:
        raise RuntimeError(done.divergence())


def trainable(
    folder: str | os.PathLike[str], *, cpus: int = 1
) -> Callable[[Mapping[str, Any]], None]:
    """What Ray Tune calls `run`, in a Tuner or in `run_experiments`: its `config` are flags of
    gpusim.train, with `env` among them, and `stop` may name `steps` and `evaluation_return`.

    Each trial is a run in a folder of its own in `folder`/runs. cpus: cores that it may use.
    """
    place = Path(folder).resolve() / "runs"

    def run(config: Mapping[str, Any]) -> None:
        trial(config, said=[], space={}, folder=place, cpus=cpus, keep=False)

    return run


def _tune(options: argparse.Namespace, said: Said, space: Space, example: TrainConfig) -> Any:
    """Run the trials that are still to be run; Ray's results."""
    import ray  # pyright: ignore[reportMissingImports]
    from ray import tune  # pyright: ignore[reportMissingImports]
    from ray.tune import schedulers  # pyright: ignore[reportMissingImports]

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    folder = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    domains = {
        name: getattr(tune, KINDS[kind])(*([values] if kind in ("grid", "choice") else values))
        for name, (kind, values) in space.items()
    }
    lists = {name: values for name, (kind, values) in space.items() if kind == "choice"}
    steps = example.learner.total_steps
    every = max(1, steps // max(1, example.evaluations))
    scheduler = {
        "none": schedulers.FIFOScheduler,
        "asha": lambda: schedulers.ASHAScheduler(
            time_attr="steps", max_t=steps, grace_period=every, reduction_factor=3
        ),
        "pbt": lambda: schedulers.PopulationBasedTraining(
            time_attr="steps", perturbation_interval=every, hyperparam_mutations=domains | lists
        ),
    }[options.scheduler]()
    keep = options.scheduler == "pbt"
    if keep:  # what is taken over should be of now
        said = [*said, ("checkpoint_seconds", Words(["0"]))]
    function = tune.with_parameters(
        trial, said=said, space=space, folder=folder / "runs", cpus=options.cpus, keep=keep
    )
    function = tune.with_resources(function, {"cpu": options.cpus, "gpu": options.gpus})
    state = folder / "tune"
    if tune.Tuner.can_restore(str(state)):
        return tune.Tuner.restore(
            str(state), function, resume_unfinished=True, resume_errored=True
        ).fit()
    return tune.Tuner(
        function,
        param_space=domains,
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", scheduler=scheduler, num_samples=options.trials
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=options.max_failures),
            verbose=1,
        ),
    ).fit()


def table(results: Any, space: Space) -> str:
    """What the trials reached, the best first."""
    reached = lambda result: (result.metrics or {}).get(METRIC, float("-inf"))
    lines = []
    for result in sorted(results, key=reached, reverse=True):
        values = "  ".join(f"{name} {result.config[name]}" for name in space)
        steps = (result.metrics or {}).get("steps", 0)
        failed = "  failed" if result.error else ""
        lines.append(f"{reached(result):10,.1f} after {steps:>12,} steps  {values}{failed}")
    return "\n".join(["evaluated return", *lines])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gpusim.sweep",
        description="Search for good values by Ray Tune; other flags are those of gpusim.train.",
    )
    add = parser.add_argument
    add("--space", type=Path, required=True, help="YAML: flags, and what they may be")
    add("--out", type=Path, required=True, help="folder of the sweep; if it has one, go on with it")
    add("--trials", type=int, default=1, help="draws; of a grid, whole passes (default: 1)")
    add("--scheduler", choices=["none", "asha", "pbt"], default="none",
        help="asha ends bad trials early, pbt lets them take over from good ones")  # fmt: skip
    add("--cpus", type=int, default=1, help="cores of a trial (default: 1)")
    add("--gpus", type=float, default=0, help="GPUs of a trial (default: 0)")
    add("--max-failures", type=int, default=3, help="of a trial, before it is given up")
    return parser


if __name__ == "__main__":
    sys.exit(main())
