"""Watch a trained policy: ``python -m gpusim.play RUN``.

Evaluates the newest checkpoint of a run on fixed starts and writes RUN/replay.html. From Python:

    player = play.load("runs/ant-0-20260101-120000")
    episodes = play.record(player, jax.random.key(0), 16)
    replay.write("replay.html", player.env.drawing(), play.tracks(episodes), player.env.dt)
"""

import argparse
import dataclasses
import json
import sys
import warnings
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

import chex
import jax
import numpy as np

from gpusim import agents, config
from gpusim.agents.evaluate import Episodes, Evaluation
from gpusim.agents.learner import Policy
from gpusim.config import ConfigError, TrainConfig
from gpusim.envs.engines import in_mujoco
from gpusim.envs.mujoco_task import MujocoTask
from gpusim.envs.world import World
from gpusim.parse import Words, flags
from gpusim.report import film, report
from gpusim.run import archive, checkpoint
from gpusim.run.archive import CheckpointError
from gpusim.run.showing import drawing as drawing_of
from gpusim.run.showing import tracks, watcher, write_replay
from gpusim.suggest import nearest


class Player(NamedTuple):
    """A trained policy in its environment."""

    config: TrainConfig
    env: World
    policy: Policy
    path: Path  # the checkpoint it was read from

    @property
    def episode_length(self) -> int:
        """The time limit the policy was trained with, in control steps."""
        return self.config.episode_length or self.env.max_episode_steps

    @property
    def evaluation_key(self) -> jax.Array:
        """Draws the starts that the run's own evaluations used."""
        return jax.random.fold_in(jax.random.key(self.config.seed), 2**31 - 1)


def load(
    run: str | Path,
    which: str | Path | None = None,
    said: Sequence[tuple[str, Words]] = (),
    *,
    seed_index: int = 0,
) -> Player:
    """The policy of a run folder, from its newest checkpoint or the one given by its steps, as
    "best" or as a file.

    seed_index: which of a run of several seeds, counted from 0.
    said: flags that change the run's configuration, those of the environment above all. Only the
    policy is read, so it does not matter on how many devices it was trained. Raises ConfigError or
    CheckpointError, with a message of one line.
    """
    run = Path(run)
    if not (run / "config.yaml").exists():
        beside = {path.parent.name: path.parent for path in run.parent.glob("*/config.yaml")}
        hint = nearest(run.name, beside).rstrip()
        raise ConfigError(f"{run} is not a run folder: it has no config.yaml; {hint}".rstrip("; "))
    settings = config.merge([run / "config.yaml"], said)
    env = settings.world()
    checkpoints = run / "checkpoints"
    path = (
        archive.newest(checkpoints, warnings.warn)[0]
        if which is None
        else archive.find(checkpoints, str(which))
    )
    # A learner on one device, for what it knows about the policy.
    kind = agents.find(agents.name_of(settings.learner)).Learner
    learner = kind(settings.learner, env, devices=1, num_seeds=settings.num_seeds)
    if not 0 <= seed_index < settings.num_seeds:
        raise ConfigError(f"seed {seed_index} of {run}: it has {settings.num_seeds}, from 0 on")
    state = checkpoint.load_part(path, learner.essentials(learner.blank()))
    try:
        chex.assert_tree_all_finite(state)
    except AssertionError:
        raise CheckpointError(f"checkpoint {path}: its policy is not finite") from None
    settings = dataclasses.replace(settings, seed=settings.seed + seed_index, num_seeds=1)
    return Player(settings, env, learner.policy(learner.of_seed(state, seed_index)), path)


def record(player: Player, key: jax.Array, num_envs: int) -> Episodes:
    """`num_envs` whole episodes, watched as `Frame`s, from starts drawn with `key`."""
    evaluation = Evaluation(player.env, num_envs, player.episode_length, watcher(player.env))
    return evaluation(player.policy, key)


def export(player: Player, folder: str | Path) -> tuple[Path, Path]:
    """Write the policy for programs without gpusim: policy.npz, and policy.json to explain it.

    Both are plain: arrays and numbers, no pickle. Raises ConfigError for a policy that cannot be.
    """
    try:
        folder, (arrays, told) = Path(folder), player.policy.export()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    description = {
        "format": "gpusim policy 1",
        "env": player.config.env,
        "control_step_seconds": player.env.dt,
        "observation_size": player.env.observation_size,
        "action_size": player.env.action_size,
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
        **told,
    }
    files = folder / "policy.npz", folder / "policy.json"
    np.savez(files[0], allow_pickle=False, **arrays)
    files[1].write_text(json.dumps(description, indent=1) + "\n")
    return files


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one line of explanation."""
    try:
        _play(*_parse(sys.argv[1:] if argv is None else argv))
    except (ConfigError, CheckpointError) as error:
        print(f"gpusim.play: {error}", file=sys.stderr)
        return 2
    return 0


def _play(options: argparse.Namespace, said: Sequence[tuple[str, Words]]) -> None:
    if options.episodes < 1:
        raise ConfigError(f"--episodes is {options.episodes}, needs to be at least 1")
    player = load(options.run, options.checkpoint, said, seed_index=options.seed_index)
    key = player.evaluation_key if options.seed is None else jax.random.key(options.seed)
    episodes = record(player, key, options.episodes)
    print(_table(player, episodes))
    if options.elsewhere:
        there = _elsewhere(player)
        print("the same policy from the same starts in C MuJoCo:")
        print(_table(there, record(there, key, options.episodes)))
    page = _draw(player, episodes, options.run)
    if (options.run / "metrics.jsonl").exists():
        report.write(options.run)
    for path in filter(None, (options.video, options.gif)):
        print(f"film: {_film(player, episodes, path, options.size, options.seconds)}")
    if options.export:
        print("policy: {} and {}".format(*export(player, options.run)))
    if options.open and page:
        webbrowser.open(page.resolve().as_uri())


def _elsewhere(player: Player) -> Player:
    """The same task, computed by C MuJoCo."""
    if not isinstance(player.env, MujocoTask):
        raise ConfigError(f"--in mujoco: {player.config.env} is no task on a MuJoCo model")
    return player._replace(env=in_mujoco(player.env))


def _draw(player: Player, episodes: Episodes, run: Path) -> Path | None:
    """Write the replay, if the world can be drawn."""
    shown = tracks(episodes)
    title = f"{player.env.name} · {run.resolve().name}"
    with _told(player):
        page = write_replay(run, player.env, shown, title)
    if page is None:
        print(f"no replay: {player.config.env} offers no drawing (docs/envs.md says how it could)")
    else:
        print(f"replay: {page} shows {', '.join(track.label for track in shown)}")
    return page


@contextmanager
def _told(player: Player) -> Iterator[None]:
    """One line of what is wrong with a drawing or a pose."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{player.config.env} cannot be drawn: {error}") from error


def _film(player: Player, episodes: Episodes, path: Path, size: str, seconds: float | None) -> Path:
    """Film the median episode."""
    wide, _, high = size.partition("x")
    with _told(player):
        drawing = drawing_of(player.env)
    if not (wide.isdecimal() and high.isdecimal() and int(wide) and int(high)):
        raise ConfigError(f"--size: {size!r} is not of the form 640x400")
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"--seconds is {seconds}, needs to be positive")
    if drawing is None:
        raise ConfigError(f"{path}: {player.config.env} offers no drawing (docs/envs.md)")
    try:
        return film.write(
            path, drawing, tracks(episodes)[0], player.env.dt,
            size=(int(wide), int(high)), seconds=seconds,
        )  # fmt: skip
    except film.FilmError as error:
        raise ConfigError(str(error)) from error


def _table(player: Player, episodes: Episodes) -> str:
    """What was played and what came of it, in a few lines."""
    total, length = np.asarray(episodes.total), np.asarray(episodes.length)
    name = f"{player.config.env}, {len(total)} episodes of {player.path}"
    head = f"{'':8}{'mean':>10}{'std':>10}{'min':>10}{'max':>10}"
    row = lambda label, x: (
        f"{label:8}{x.mean():10,.1f}{x.std():10,.1f}{x.min():10,.1f}{x.max():10,.1f}"
    )
    return "\n".join([name, head, row("return", total), row("length", length)])


_SUMMARY = "Evaluate a trained policy on fixed starts and write a 3D replay of it."
_EPILOG = "--env, --env.NAME VALUE and --physics play in another environment than the run's."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, Words]]]:
    parser = _Parser(
        prog="python -m gpusim.play", description=_SUMMARY, epilog=_EPILOG, allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="run folder that gpusim.train wrote")
    parser.add_argument("--episodes", type=int, default=128, help="how many (default: 128)")
    parser.add_argument(
        "--seed", type=int, help="of the starts (default: those of the run's own evaluations)"
    )
    parser.add_argument(
        "--seed-index", type=int, default=0, help="which of a run's --num-seeds (default: 0)"
    )
    parser.add_argument(
        "--checkpoint", metavar="STEPS|best|FILE", help="which to read (default: the newest)"
    )
    parser.add_argument(
        "--in", dest="elsewhere", choices=["mujoco"], help="play it there too, and compare"
    )
    parser.add_argument(
        "--export", action="store_true", help="write policy.npz and policy.json: no pickle, no JAX"
    )
    for name, kinds in (("video", "mp4, webm, mov"), ("gif", "gif, webp")):
        parser.add_argument(
            f"--{name}", type=Path, metavar="FILE", help=f"film the median episode ({kinds})"
        )
    parser.add_argument("--seconds", type=float, help="of the film (default: the whole episode)")
    parser.add_argument(
        "--size", default="640x400", metavar="WxH", help="of the film, pixels (default: 640x400)"
    )
    parser.add_argument("--open", action="store_true", help="open the replay in a browser")
    options, rest = parser.parse_known_args(argv)
    try:
        said = flags(rest)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for name, _ in said:
        if name not in ("env", "physics") and not name.startswith("env."):
            raise ConfigError(f"unrecognized arguments: {' '.join(rest)}")
    return options, said


if __name__ == "__main__":
    sys.exit(main())
