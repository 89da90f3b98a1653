"""Watch a trained policy: ``python -m gpusim.play RUN``.

Evaluates the newest checkpoint of a run on fixed starts and writes RUN/replay.html. From Python:

    player = play.load("runs/ant-0-20260101-120000")
    episodes = play.record(player.env, player.policy, jax.random.key(0), 16, player.episode_length)
    replay.write("replay.html", player.env.model, play.tracks(episodes), player.env.dt)
"""

import argparse
import difflib
import json
import sys
import webbrowser
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

import gpusim
from gpusim import checkpoint, config, envs
from gpusim.agents import normalize
from gpusim.agents.ppo import PPO, Policy
from gpusim.checkpoint import CheckpointError
from gpusim.config import ConfigError, TrainConfig
from gpusim.report import replay, report


class Player(NamedTuple):
    """A trained policy in its environment."""

    config: TrainConfig
    env: Any  # one world
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


class Episodes(NamedTuple):
    """N episodes, one a column; what comes after an episode's end means nothing."""

    qpos: jax.Array  # (T + 1, N, nq) the start, then the position after each control step
    reward: jax.Array  # (T, N)
    speed: jax.Array | None  # (T, N) m/s along x, of the environments that measure it
    length: jax.Array  # (N,) control steps up to and including the one that terminated
    total: jax.Array  # (N,) return: the sum of the rewards up to there


def load(run: str | Path, checkpoint_path: Path | None = None) -> Player:
    """The policy of a run folder, from its newest checkpoint or the one given.

    Only the policy is read, so it does not matter on how many devices it was trained. Raises
    ConfigError or CheckpointError, with a message of one line.
    """
    run = Path(run)
    if not (run / "config.yaml").exists():
        raise ConfigError(f"{run} is not a run folder: it has no config.yaml{_nearest(run)}")
    settings = config.parse(["--config", str(run / "config.yaml")]).train
    env = gpusim.make(settings.env)
    path = checkpoint_path or checkpoint.latest(run / "checkpoints")
    # A learner on one device, for what it knows about the policy's network.
    learner = PPO(settings.ppo, lambda n: envs.autoreset(env, n), devices=1)
    network = learner.policy_network
    blank = {
        "params": {"policy": jax.eval_shape(network.init, jax.random.key(0), _observation(env))},
        "normalizer": normalize.init(env.observation_size) if _normalizes(settings) else None,
    }
    state = _read(path, blank)
    policy = Policy(
        state["params"]["policy"], state["normalizer"], network, settings.ppo.distribution
    )
    return Player(settings, env, policy, path)


@partial(jax.jit, static_argnames=("env", "num_envs", "episode_length"))
def record(env: Any, policy: Any, key: jax.Array, num_envs: int, episode_length: int) -> Episodes:
    """`num_envs` whole episodes of the deterministic policy, from starts drawn with `key`.

    The same episodes that `gpusim.agents.ppo.evaluate` averages over.
    """

    def step(carry, _):
        state, alive, total, length = carry
        state = jax.vmap(env.step)(state, policy.apply(state.obs))
        total = total + jnp.where(alive, state.reward, 0.0)
        speed = getattr(state.metrics, "x_velocity", None)
        carry = (state, alive & ~state.terminated, total, length + alive)
        return carry, (state.physics.qpos, state.reward, speed)

    start = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    alive = jnp.ones(num_envs, bool)
    carry = (start, alive, jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32))
    (_, _, total, length), (qpos, reward, speed) = jax.lax.scan(step, carry, length=episode_length)
    return Episodes(jnp.concatenate([start.physics.qpos[None], qpos]), reward, speed, length, total)


def tracks(episodes: Episodes) -> list[replay.Track]:
    """The median, the best and the worst episode by return, for `replay.write`."""
    order = np.argsort(np.asarray(episodes.total), kind="stable")
    chosen = {"median": order[(len(order) - 1) // 2], "best": order[-1], "worst": order[0]}
    return [_track(episodes, int(i), name) for name, i in chosen.items()][: len(order)]


def export(player: Player, folder: str | Path) -> tuple[Path, Path]:
    """Write the policy for programs without gpusim: policy.npz, and policy.json to explain it.

    Both are plain: arrays and numbers, no pickle.
    """
    folder, policy = Path(folder), player.policy
    stack = policy.params["params"]["MLP_0"]
    layers = [stack[name] for name in sorted(stack, key=lambda name: int(name.split("_")[1]))]
    seen = policy.normalizer or normalize.init(player.env.observation_size)
    unchanged = policy.normalizer is None
    arrays = {"mean": np.asarray(seen.mean), "std": np.sqrt(seen.variance + normalize.EPSILON)}
    if unchanged:
        arrays["std"] = np.ones_like(arrays["std"])
    for i, layer in enumerate(layers):
        arrays |= {f"weight{i}": np.asarray(layer["weight"]), f"bias{i}": np.asarray(layer["bias"])}
    description = {
        "format": "gpusim policy 1",
        "env": player.config.env,
        "control_step_seconds": player.env.dt,
        "observation_size": player.env.observation_size,
        "action_size": player.env.action_size,
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
        "observation_clip": None if unchanged else normalize.CLIP,
        "layers": len(layers),
        "activation": player.config.ppo.activation,
        "output": player.config.ppo.distribution,
        "formula": "x = (observation - mean) / std, clipped to +-observation_clip; for each layer "
        "x = weight @ x + bias, followed by the activation except after the last; action = x "
        "clipped to [-1, 1] if output is clip, tanh(x) if output is tanh",
    }
    files = folder / "policy.npz", folder / "policy.json"
    np.savez(files[0], allow_pickle=False, **arrays)
    files[1].write_text(json.dumps(description, indent=1) + "\n")
    return files


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one line of explanation."""
    try:
        _play(_parse(sys.argv[1:] if argv is None else argv))
    except (ConfigError, CheckpointError) as error:
        print(f"gpusim.play: {error}", file=sys.stderr)
        return 2
    return 0


def _play(options: argparse.Namespace) -> None:
    if options.episodes < 1:
        raise ConfigError(f"--episodes is {options.episodes}, needs to be at least 1")
    player = load(options.run, options.checkpoint)
    key = player.evaluation_key if options.seed is None else jax.random.key(options.seed)
    episodes = record(player.env, player.policy, key, options.episodes, player.episode_length)
    print(_table(player, episodes))
    shown = tracks(episodes)
    page = replay.write(
        options.run / "replay.html",
        player.env.model,
        shown,
        player.env.dt,
        title=f"{player.config.env} · {options.run.resolve().name}",
    )
    print(f"replay: {page} shows {', '.join(track.label for track in shown)}")
    if (options.run / "metrics.jsonl").exists():
        report.write(options.run)
    if options.export:
        print("policy: {} and {}".format(*export(player, options.run)))
    if options.open:
        webbrowser.open(page.resolve().as_uri())


def _table(player: Player, episodes: Episodes) -> str:
    """What was played and what came of it, in a few lines."""
    total, length = np.asarray(episodes.total), np.asarray(episodes.length)
    name = f"{player.config.env}, {len(total)} episodes of {player.path}"
    head = f"{'':8}{'mean':>10}{'std':>10}{'min':>10}{'max':>10}"
    row = lambda label, x: (
        f"{label:8}{x.mean():10,.1f}{x.std():10,.1f}{x.min():10,.1f}{x.max():10,.1f}"
    )
    return "\n".join([name, head, row("return", total), row("length", length)])


def _track(episodes: Episodes, i: int, name: str) -> replay.Track:
    """Episode i up to its end, or up to where it blew up."""
    length = int(episodes.length[i])
    qpos = np.asarray(episodes.qpos[: length + 1, i])
    finite = np.isfinite(qpos).all(axis=1)
    frames = len(qpos) if finite.all() else int(finite.argmin())
    reward = np.concatenate([[0.0], np.asarray(episodes.reward[:length, i])])[:frames]
    extras = {"reward": reward, "return": np.nancumsum(reward)}
    if episodes.speed is not None:
        speed = np.asarray(episodes.speed[:length, i])
        extras["speed, m/s"] = np.concatenate([speed[:1], speed])[:frames]
    return replay.Track(qpos[:frames], f"{name} ({float(episodes.total[i]):,.0f})", extras)


def _read(path: Path, blank: Any) -> Any:
    """The part of a saved training state that `blank` has the shape of, of its first device."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return jax.tree_util.tree_map_with_path(partial(_leaf, saved, path), blank)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"checkpoint {path}: cannot be read ({error})") from error


def _leaf(saved: Any, path: Path, where: Any, blank: Any) -> jax.Array:
    name = f"state/{jax.tree_util.keystr(where, simple=True, separator='/')}"
    if name not in saved:
        raise CheckpointError(f"checkpoint {path}: leaf {name} is missing in it")
    leaf = saved[name][0]
    if leaf.shape != blank.shape:
        raise CheckpointError(
            f"checkpoint {path}: leaf {name} is {list(leaf.shape)} in it, "
            f"config.yaml asks for {list(blank.shape)}"
        )
    return jnp.asarray(leaf, blank.dtype)


def _observation(env: Any) -> jax.Array:
    return jnp.zeros(env.observation_size)


def _normalizes(settings: TrainConfig) -> bool:
    return settings.ppo.normalize_observations


def _nearest(run: Path) -> str:
    """A hint at the run folder that may have been meant."""
    beside = [path.parent.name for path in run.parent.glob("*/config.yaml")]
    close = difflib.get_close_matches(run.name, beside, n=1, cutoff=0.3)
    return f"; did you mean {run.parent / close[0]}?" if close else ""


_SUMMARY = "Evaluate a trained policy on fixed starts and write a 3D replay of it."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m gpusim.play", description=_SUMMARY)
    parser.add_argument("run", type=Path, help="run folder that gpusim.train wrote")
    parser.add_argument("--episodes", type=int, default=128, help="how many (default: 128)")
    parser.add_argument(
        "--seed", type=int, help="of the starts (default: those of the run's own evaluations)"
    )
    parser.add_argument("--checkpoint", type=Path, help="file to read (default: the newest)")
    parser.add_argument(
        "--export", action="store_true", help="write policy.npz and policy.json: no pickle, no JAX"
    )
    parser.add_argument("--open", action="store_true", help="open the replay in a browser")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
