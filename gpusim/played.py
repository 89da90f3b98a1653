"""What a trained policy did in whole episodes, and what can be made of them: a table, a replay,
films, files.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.agents import dataset
from gpusim.agents.evaluate import Episodes, Evaluation
from gpusim.config import ConfigError
from gpusim.envs import engines
from gpusim.envs.world import World
from gpusim.player import Player
from gpusim.report import film, replay, report, vehicles
from gpusim.run.files import write_atomic
from gpusim.run.showing import drawing as drawing_of
from gpusim.run.showing import median, tracks, watcher, write_replay


def record(player: Player, key: jax.Array, num_envs: int) -> Episodes:
    """`num_envs` whole episodes, watched as `Frame`s, from starts drawn with `key`."""
    watch = watcher(player.env, player.counted)
    evaluation = Evaluation(player.env, num_envs, player.episode_length, watch, player.counted)
    return evaluation(player.policy, key)


@dataclass(frozen=True, repr=False)
class Played:
    """Episodes of a policy; in a notebook, their replay."""

    player: Player
    key: jax.Array  # the starts were drawn with it
    episodes: Episodes

    @classmethod
    def of(cls, player: Player, key: jax.Array, episodes: int) -> "Played":
        """So many episodes from starts drawn with `key`. ConfigError for none."""
        if episodes < 1:
            raise ConfigError(f"--episodes is {episodes}, needs to be at least 1")
        return cls(player, key, record(player, key, episodes))

    def text(self) -> str:
        """What was played and what came of it, in a few lines."""
        total, length = np.asarray(self.episodes.total), np.asarray(self.episodes.length)
        head = f"{'':8}{'mean':>10}{'std':>10}{'min':>10}{'max':>10}"
        row = lambda label, x: (
            f"{label:8}{x.mean():10,.1f}{x.std():10,.1f}{x.min():10,.1f}{x.max():10,.1f}"
        )
        return "\n".join([self._name(), head, row("return", total), row("length", length)])

    def __repr__(self) -> str:
        total = np.asarray(self.episodes.total)
        return f"<{self._name()}: return {total.mean():,.0f} ± {total.std():,.0f}>"

    def _name(self) -> str:
        player = self.player
        rival = f" against {player.against}" if player.against else ""
        return f"{player.config.env}, {len(self.episodes.total)} episodes of {player.path}{rival}"

    def tracks(self) -> list[replay.Track]:
        """The median, the best and the worst episode by return, for `gpusim.report.replay`."""
        return tracks(self.episodes)

    def replay(self) -> Path | None:
        """Write RUN/replay.html, and the report with it; None if the world cannot be drawn."""
        run = self.player.run
        with _told(self.player):
            page = write_replay(run, self.player.env, self.tracks(), self._title())
        if (run / "metrics.jsonl").exists():
            report.write(run)
        return page

    def film(
        self, path: str | Path, *, size: tuple[int, int] = (640, 400), seconds: float | None = None
    ) -> Path:
        """Film the median episode: mp4, webm, mov, gif or webp; size in pixels, and by default the
        whole episode. Raises ConfigError for what cannot be filmed."""
        player, path = self.player, Path(path)
        if not min(size) > 0:
            raise ConfigError(f"--size: {size} needs to be positive")
        check_seconds(seconds)
        with _told(player):
            drawing = drawing_of(player.env)
        if drawing is None:
            raise ConfigError(f"{path}: {player.config.env} offers no drawing (docs/envs.md)")
        try:
            return film.write(
                path, drawing, self.tracks()[0], player.env.dt, size=size, seconds=seconds
            )
        except film.FilmError as error:
            raise ConfigError(str(error)) from error

    def pictures(self, path: str | Path, *, seconds: float | None = None) -> Path:
        """Film what the policy saw in the median episode, the newest of stacked pictures, those of
        several agents side by side: mp4, webm, mov, gif or webp. Raises ConfigError for a world
        that is not seen in pictures."""
        player, world = self.player, self.player.env
        check_seconds(seconds)
        check_seen(player)
        every = len(self.episodes.total)
        again = Evaluation(world, every, player.episode_length, lambda state: state.obs)
        found = again(player.policy, self.key)
        which = median(self.episodes)
        steps = int(found.length[which])
        if seconds is not None:
            steps = min(steps, max(round(seconds / world.dt), 1))
        seen = found.watched[:steps, which].reshape(steps, world.agents, -1)
        drawn = jax.vmap(jax.vmap(world.picture))(seen)
        beside = np.concatenate(np.moveaxis(np.asarray(drawn, float), 1, 0), axis=2)
        try:
            return film.write_pictures(path, beside[..., : world.picture_colours], world.dt)
        except film.FilmError as error:
            raise ConfigError(str(error)) from error

    def save(self, path: str | Path, *, min_return: float = -math.inf) -> int:
        """Write the episodes that earned so much at least to an .npz, to be learned from
        (`gpusim.agents.dataset`): how many they are. Of several agents all are kept, and of their
        rewards the mean of those whose return is told. Raises ConfigError if there is none."""
        player, path = self.player, Path(path)
        watch = lambda state: (state.obs, jnp.atleast_1d(state.reward)[player.counted].mean())
        every = len(self.episodes.total)
        again = Evaluation(player.env, every, player.episode_length, watch)(player.policy, self.key)
        (obs, reward), length = again.watched, np.asarray(again.length).astype(int)
        obs = jax.tree.map(lambda x: x[:-1], obs)
        _, action = jax.lax.scan(
            player.policy.act, player.policy.initial((every, *player.env.each)), obs
        )
        one_by_one = lambda x: np.concatenate([np.asarray(x)[:n, i] for i, n in enumerate(length)])
        found = dataset.Dataset(
            jax.tree.map(one_by_one, obs),
            one_by_one(action),
            one_by_one(reward[1:]),
            length,
            ~np.asarray(again.alive),
        ).better_than(min_return)
        if not len(found.length):
            best = float(np.max(self.episodes.total))
            raise ConfigError(f"--min-return is {min_return:g}: the best episode earned {best:g}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: dataset.write(file, found))
        return len(found.length)

    def emission(self, path: str | Path) -> int:
        """Write every vehicle of every step as a table, .csv or .parquet: how many rows. Raises
        ConfigError for a world that has no vehicles, or a name that ends otherwise."""
        path, (moved, length) = check_table(path), self._vehicles()
        columns = vehicles.table(moved, length, self.player.env.dt)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: vehicles.write_table(path, file, columns))
        return len(columns["time"])

    def time_space(self, path: str | Path) -> Path:
        """Draw where the vehicles of the median episode are over time, a .png. Raises ConfigError
        for a world that has no vehicles, or another name."""
        path = check_diagram(path)
        moved, length = self._vehicles()
        episode = median(self.episodes)
        one = jax.tree.map(lambda x: x[: int(length[episode]) + 1, episode], moved)
        return _drawn(path, vehicles.diagram, one, self.player.env.dt)

    def capacity(self, path: str | Path) -> Path:
        """Draw what leaves the road over what comes, a .png, a point for each episode: the mean of
        its second half. Raises ConfigError for a world that does not measure `inflow` and
        `outflow`, or another name."""
        path, player = check_diagram(path), self.player
        known = jax.eval_shape(player.env.start, jax.random.key(0)).metrics
        if not known.keys() >= {"inflow", "outflow"}:
            raise ConfigError(
                f"{player.config.env} measures no inflow and outflow (docs/traffic.md)"
            )
        watch = lambda state: (state.metrics["inflow"], state.metrics["outflow"])
        again = Evaluation(player.env, len(self.episodes.total), player.episode_length, watch)
        found = again(player.policy, self.key)
        length = np.asarray(found.length).astype(int)
        halves = [slice(n // 2 + 1, n + 1) for n in length]
        flows = ([x[half, i].mean() for i, half in enumerate(halves)] for x in found.watched)
        return _drawn(path, vehicles.capacity, *map(np.asarray, flows))

    def _vehicles(self) -> tuple[Any, np.ndarray]:
        """What moved in the episodes, (T + 1, N, n) of each column, and their lengths."""
        player = self.player
        watch = getattr(player.env, "vehicles", None)
        if watch is None:
            raise ConfigError(f"{player.config.env} has no vehicles to tell of (docs/traffic.md)")
        again = Evaluation(player.env, len(self.episodes.total), player.episode_length, watch)
        found = again(player.policy, self.key)
        return found.watched, np.asarray(found.length).astype(int)

    def in_mujoco(self) -> "Played":
        """The same policy from the same starts, computed by C MuJoCo."""
        return self.by(elsewhere(self.player, "mujoco"))

    def in_gymnasium(self) -> "Played":
        """The same policy in the environment of Gymnasium's that the task is made after, from as
        many starts, which are drawn there."""
        return self.by(elsewhere(self.player, "gymnasium"))

    def by(self, player: Player) -> "Played":
        """As many episodes by another player, from the same key."""
        return Played.of(player, self.key, len(self.episodes.total))

    def _title(self) -> str:
        return f"{self.player.env.name} · {self.player.run.resolve().name}"

    def _repr_html_(self) -> str | None:
        drawing, dt = drawing_of(self.player.env), self.player.env.dt
        if drawing is None:
            return None
        return replay.show(drawing, self.tracks(), dt, title=self._title())._repr_html_()


class Place(NamedTuple):
    """Somewhere else to play."""

    world: Callable[[World], World]  # the same task there; ValueError if there is none
    what: str  # what is played there


PLACES = {
    "mujoco": Place(engines.in_mujoco, "from the same starts in C MuJoCo"),
    "gymnasium": Place(engines.in_gymnasium, "in Gymnasium's own environment, from its starts"),
}


def elsewhere(player: Player, place: str) -> Player:
    """The same policy in another place. Raises ConfigError if its task is not there."""
    try:
        return player._replace(env=PLACES[place].world(player.env))
    except ValueError as error:
        raise ConfigError(f"--in {place}: {error}") from error


def check_seconds(seconds: float | None) -> None:
    """Raise ConfigError for what is no length of a film."""
    if seconds is not None and not seconds > 0:
        raise ConfigError(f"--seconds is {seconds}, needs to be positive")


def check_table(path: str | Path) -> Path:
    """Where vehicles are to be written. Raises ConfigError for what is no table's name."""
    try:
        vehicles.check_table(Path(path))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return Path(path)


def check_diagram(path: str | Path) -> Path:
    """Where a diagram is to be written. Raises ConfigError for another name than .png."""
    if Path(path).suffix != ".png":
        raise ConfigError(f"{path}: the diagram is a .png")
    return Path(path)


def _drawn(path: Path, draw: Callable[..., Any], *of: Any) -> Path:
    """What is drawn of something, written to a file."""
    try:
        picture = draw(*of)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda file: picture.save(file, format="png"))
    return path


def check_seen(player: Player) -> None:
    """Raise ConfigError unless the policy sees pictures."""
    if player.env.picture_shape is None:
        raise ConfigError(f"{player.config.env} is not seen in pictures (docs/pixels.md)")


@contextmanager
def _told(player: Player) -> Iterator[None]:
    """One line of what is wrong with a drawing or a pose."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{player.config.env} cannot be drawn: {error}") from error
