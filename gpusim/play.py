"""Watch a trained policy: ``python -m gpusim.play RUN``, or from Python

    played = gpusim.play("runs/ant")  # a table; in a notebook the replay
    played.film("ant.webp", seconds=5)

Evaluates the newest checkpoint of a run on fixed starts; the command writes RUN/replay.html too.
"""

import argparse
import math
import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax

from gpusim import shell
from gpusim.callable import callable_module
from gpusim.config import ConfigError
from gpusim.parse import flags
from gpusim.played import (
    PLACES,
    Played,
    check_diagram,
    check_seconds,
    check_seen,
    check_table,
    elsewhere,
)
from gpusim.player import Player, load
from gpusim.report import film
from gpusim.run.archive import CheckpointError


def play(
    run: str | os.PathLike[str],
    *,
    episodes: int = 128,
    seed: int | None = None,
    checkpoint: str | int | Path | None = None,
    seed_index: int = 0,
    against: str | int | Path | None = None,
    env: str | None = None,
    physics: str | None = None,
    env_options: Mapping[str, Any] | None = None,
) -> Played:
    """Play whole episodes of a run's policy, without exploring.

    run: a run folder, or what `gpusim.train` returned. seed: of the starts; None: those of the
    run's own evaluations. checkpoint: steps, "best" or a file; None: the newest. seed_index: which
    of a run of several seeds. against: the run folder, or the other checkpoint of this run, whose
    policy all agents of a world but the first follow; the return is the first one's. env, physics,
    env_options: another environment than the run's.
    Raises ConfigError or CheckpointError, both ValueErrors.
    """
    if not isinstance(env_options or {}, Mapping):
        raise ConfigError(f"env_options: expected names and values, found {env_options!r}")
    options = {f"env.{name}": value for name, value in (env_options or {}).items()}
    given = {"env": env, "physics": physics} | options
    said = [(name, value) for name, value in given.items() if value is not None]
    player = load(run, checkpoint, said, seed_index=seed_index, against=against)
    return Played.of(player, _starts(player, seed), episodes)


def _starts(player: Player, seed: int | None) -> jax.Array:
    """What the starts are drawn with."""
    return player.evaluation_key if seed is None else jax.random.key(seed)


@shell.command("gpusim.play")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one line of explanation."""
    try:
        _play(*_parse(sys.argv[1:] if argv is None else argv))
    except (ConfigError, CheckpointError, OSError) as error:  # OSError: a page cannot be written
        return shell.complain("gpusim.play", error)
    return 0


def _play(options: argparse.Namespace, said: Sequence[tuple[str, Any]]) -> None:
    films, size = [path for path in (options.video, options.gif) if path], _size(options.size)
    try:
        for path in [*films, *filter(None, [options.pictures])]:
            film.check(path)
    except film.FilmError as error:
        raise ConfigError(str(error)) from error
    if math.isnan(options.min_return):
        raise ConfigError("--min-return is nan, which no episode earns")
    if options.min_return > -math.inf and not options.save:
        raise ConfigError("--min-return says which episodes --save FILE keeps: say both")
    check_seconds(options.seconds)
    if options.emission:
        check_table(options.emission)
    for path in filter(None, [options.capacity, options.time_space]):
        check_diagram(path)
    player = load(
        *(options.run, options.checkpoint, said),
        seed_index=options.seed_index,
        against=options.against,
    )
    if options.replay_nan:
        shell.say(f"{player.config.env}, {player.path}: {player.fault().text()}")
        return
    if options.pictures:
        check_seen(player)
    there = elsewhere(player, options.elsewhere) if options.elsewhere else None
    played = Played.of(player, _starts(player, options.seed), options.episodes)
    shell.say(played.text())
    if there:
        shell.say(f"the same policy {PLACES[options.elsewhere].what}:")
        shell.say(played.by(there).text())
    if page := played.replay():
        shown = ", ".join(track.label for track in played.tracks())
        shell.say(f"replay: {page} shows {shown}")
    else:
        shell.say(
            f"no replay: {player.config.env} offers no drawing (docs/envs.md says how it could)"
        )
    if options.save:
        count = played.save(options.save, min_return=options.min_return)
        told = f"episodes: {options.save} holds {count}"
        if player.env.picture_shape:
            shell.say(f"{told}, as numbers that pictures are drawn of, which bc does not see")
        else:
            shell.say(f"{told} to learn from (--learner bc)")
    if options.emission:
        count = played.emission(options.emission)
        shell.say(f"vehicles: {options.emission} holds {count:,} rows, one a vehicle and step")
    if options.capacity:
        shell.say(f"what leaves over what comes: {played.capacity(options.capacity)}")
    if options.time_space:
        shell.say(f"time and space of the median episode: {played.time_space(options.time_space)}")
    if options.pictures:
        path = played.pictures(options.pictures, seconds=options.seconds)
        shell.say(f"what the policy saw: {path}")
    for path in films:
        shell.say(f"film: {played.film(path, size=size, seconds=options.seconds)}")
    if options.open and page:
        webbrowser.open(page.resolve().as_uri())


def _size(text: str) -> tuple[int, int]:
    """Pixels of 640x400."""
    wide, _, high = text.partition("x")
    if not (wide.isdecimal() and high.isdecimal() and int(wide) and int(high)):
        raise ConfigError(f"--size: {text!r} is not of the form 640x400")
    return int(wide), int(high)


_SUMMARY = "Evaluate a trained policy on fixed starts and write a 3D replay of it."
_EPILOG = "--env, --env.NAME VALUE and --physics play in another environment than the run's."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, Any]]]:
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
        "--against", metavar="RUN|STEPS|best|FILE",
        help="the run, or the other checkpoint of this one, whose policy all agents of a world but "
        "the first follow",
    )  # fmt: skip
    parser.add_argument(
        "--in", dest="elsewhere", choices=[*PLACES], help="play it there too, and compare"
    )
    parser.add_argument(
        "--replay-nan", action="store_true",
        help="instead, make the last step again that led a world of the training to numbers that "
        "are not finite, and name them",
    )  # fmt: skip
    parser.add_argument(
        "--save", type=Path, metavar="FILE.npz", help="keep the episodes, to be learned from"
    )
    parser.add_argument(
        "--min-return", type=float, default=-math.inf, metavar="R",
        help="keep those that earned so much at least",
    )  # fmt: skip
    parser.add_argument(
        "--emission", type=Path, metavar="FILE.csv",
        help="of traffic: write every vehicle of every step as a table (.csv, .parquet)",
    )  # fmt: skip
    parser.add_argument(
        "--time-space", type=Path, metavar="FILE.png",
        help="of traffic: draw where the vehicles of the median episode are over time",
    )  # fmt: skip
    parser.add_argument(
        "--capacity", type=Path, metavar="FILE.png",
        help="of traffic that comes and leaves: draw how much of it does (--env.inflow-range)",
    )  # fmt: skip
    for name, kinds in (("video", "mp4, webm, mov"), ("gif", "gif, webp")):
        parser.add_argument(
            f"--{name}", type=Path, metavar="FILE", help=f"film the median episode ({kinds})"
        )
    parser.add_argument(
        "--pictures", type=Path, metavar="FILE",
        help="of worlds seen in pictures: film what the policy saw in the median one (as above)",
    )  # fmt: skip
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
    return options, [*said]


callable_module(__name__)

if __name__ == "__main__":
    sys.exit(main())
