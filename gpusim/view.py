"""Watch a policy live in a browser: ``python -m gpusim.view RUN``.

A few worlds step as time goes by; a run that is still training shows its newest checkpoint as soon
as it is there. The page (viser's) has a slider for the speed and for each command that the task
takes, pauses and starts anew, and lets the robots be pushed: by a button, or by dragging the
handle at the first one. It is served to this machine alone.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from gpusim import shell
from gpusim.config import ConfigError
from gpusim.envs.vec_env import VecState, autoreset
from gpusim.envs.world import World
from gpusim.player import Player, load
from gpusim.report import scene
from gpusim.run import archive
from gpusim.run.archive import CheckpointError
from gpusim.run.showing import drawing as drawing_of

HOST = "127.0.0.1"
FRAMES = 30.0  # pictures a second
LOOK = 1.0  # seconds between two looks for a newer checkpoint
PULL = 4.0  # rad/s: a robot hangs on the handle that is dragged as on a spring of this frequency


class Show:
    """Worlds of a run that step with its policy, without exploring, and what is done to them."""

    def __init__(self, player: Player, num: int, *, follow: bool = True, seed: int = 0):
        """follow: take newer checkpoints as they appear."""
        self.player, self.num, self.follow = player, num, follow
        self._worlds = autoreset(player.env, num, episode_length=player.episode_length)
        self._reset, self._step = jax.jit(self._worlds.reset), jax.jit(self._stepped)
        self._change = jax.jit(jax.vmap(player.env.pushed))
        self._seed = seed
        self.reset()

    @property
    def world(self) -> World:
        """What steps."""
        return self.player.env

    def reset(self) -> None:
        """Other starts, all at the beginning of the time limit."""
        state = self._reset(jax.random.key(self._seed))
        self.state: VecState = state.replace(steps=jnp.zeros_like(state.steps))
        self.memory = self.player.policy.initial((self.num, *self.world.each))
        self._seed += 1

    def step(self, asked: dict[str, float]) -> None:
        """One control step; asked: a number for each of the world's commands."""
        numbers = {name: jnp.full(self.num, float(x)) for name, x in asked.items()}
        policy = self.player.policy
        self.state, self.memory = self._step(policy, self.state, self.memory, numbers)

    def poses(self) -> np.ndarray:
        """(worlds, nq)."""
        return np.asarray(jax.vmap(self.world.pose)(self.state.world))

    def pushable(self) -> bool:
        """Can velocities be changed in this kind of world?"""
        return type(self.world).pushed is not World.pushed

    def push(self, mj: Any, body: int, impulses: np.ndarray) -> None:
        """Give each world an impulse (worlds, 3) N s on a body."""
        poses = self.poses()
        kicks = [scene.kick(mj, *of) for of in zip(poses, [body] * self.num, impulses, strict=True)]
        world = self._change(self.state.world, jnp.asarray(np.stack(kicks), jnp.float32))
        self.state = self.state.replace(world=world)

    def look(self) -> bool:
        """Take the policy of a newer checkpoint, if there is one that is sound."""
        found = archive.checkpoints(self.player.run / "checkpoints")
        if not self.follow or not found or found[-1] <= self.player.path:
            return False
        try:
            policy = self.player.read(found[-1])
        except (CheckpointError, OSError):  # deleted, or damaged: the next one will do
            return False
        self.player = self.player._replace(policy=policy, path=found[-1])
        return True

    def _stepped(self, policy: Any, state: VecState, memory: Any, asked: Any) -> tuple[Any, Any]:
        if asked:
            state = state.replace(world=jax.vmap(self.world.command)(state.world, asked))
        memory, action = policy.act(memory, state.world.obs)
        state = self._worlds.step(state, action)
        fresh = policy.initial((self.num, *self.world.each))
        done = state.world.terminated | state.world.truncated
        begun = lambda new, old: jnp.where(done.reshape(-1, *(1,) * (old.ndim - 1)), new, old)
        return state, jax.tree.map(begun, fresh, memory)


class View:
    """The page, and the loop that keeps it moving."""

    def __init__(self, show: Show, port: int):
        """port: of the page, or the next one that is free. Raises ConfigError for a world that
        cannot be drawn."""
        import viser  # pyright: ignore[reportMissingImports]

        self.show = show
        self.mj = drawing_of(show.world)
        if self.mj is None:
            raise ConfigError(f"{show.world.name} offers no drawing (docs/envs.md)")
        self.server = viser.ViserServer(host=HOST, port=port, label="gpusim", verbose=False)
        try:
            self.scene = scene.Scene(self.server, self.mj, show.poses())
        except ValueError as error:
            raise ConfigError(f"{show.world.name} cannot be drawn: {error}") from error
        self._mass = float(self.mj.body_mass.sum())
        self.held, self._closed = False, False  # is the handle being dragged? is this the end?
        self._pending: list[Any] = []  # what the page asked for, done between two steps
        self._controls()
        self._camera()
        self._tell()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server.get_port()}"

    def run(self, until: float = float("inf")) -> None:
        """Step in time until so many seconds have passed."""
        begun = looked = shown = time.monotonic()
        owed = 0.0  # seconds of the worlds
        while (now := time.monotonic()) - begun < until and not self._closed:
            if now - looked > LOOK:
                looked = now
                if self.show.look():
                    self._tell()
            owed += 0.0 if self.pause.value else (now - shown) * self.speed.value
            shown, dt = now, self.show.world.dt
            deadline = now + 2 / FRAMES
            while owed >= dt and time.monotonic() < deadline:
                self.step()
                owed -= dt
            owed = min(owed, dt)  # a machine that is too slow shows it slower
            self._do()
            self.scene.place(self.show.poses(), follow=self.follow.value)
            if not self.held:
                self.handle.position = self.scene.positions[0]
            time.sleep(max(0.0, 1 / FRAMES - (time.monotonic() - now)))
        self.server.stop()

    def close(self) -> None:
        """Let `run` end, and the page with it."""
        self._closed = True

    def step(self) -> None:
        """One control step of all worlds, the first one pulled if it is held."""
        if self.held and self.show.pushable():
            away = np.asarray(self.handle.position) - self.scene.positions[0]
            impulses = np.zeros((self.show.num, 3))
            impulses[0] = self._mass * PULL**2 * away * self.show.world.dt
            self.show.push(self.mj, self.scene.torso, impulses)
        self.show.step({name: slider.value for name, slider in self.commands.items()})

    def _controls(self) -> None:
        gui = self.server.gui
        self.said = gui.add_markdown("")
        gui.configure_theme(show_share_button=False)  # it would lead through somebody's server
        self.pause = gui.add_checkbox("Pause", False)
        self.follow = gui.add_checkbox("Follow", True)
        self.speed = gui.add_slider("Speed", min=0.1, max=4.0, step=0.1, initial_value=1.0)
        gui.add_button("Start anew").on_click(lambda _: self._pending.append(self.show.reset))
        self.commands = {
            name: gui.add_slider(
                name, min=low, max=high, step=(high - low) / 100, initial_value=(low + high) / 2
            )
            for name, (low, high) in self.show.world.commands.items()
        }
        able = self.show.pushable()
        self.strength = gui.add_slider(
            "Push (m/s)", min=0.0, max=5.0, step=0.1, initial_value=1.0, visible=able
        )
        button = gui.add_button("Push them", visible=able)
        button.on_click(lambda _: self._pending.append(self._push))
        self.handle = self.server.scene.add_transform_controls(
            "/handle", scale=0.6, disable_rotations=True, depth_test=False, visible=able
        )
        self.handle.on_update(self._hold)

    def _hold(self, event: Any) -> None:
        self.held = event.phase != "end"

    def _push(self) -> None:
        """Each world in a direction of its own, along the ground."""
        angle = np.random.default_rng().uniform(0, 2 * np.pi, self.show.num)
        way = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], 1)
        self.show.push(self.mj, self.scene.torso, self._mass * self.strength.value * way)

    def _do(self) -> None:
        """What was asked for."""
        while self._pending:
            self._pending.pop(0)()

    def _camera(self) -> None:
        """Look at all of them from the side."""
        far = self.scene.size * (1.0 + self.show.num)
        middle = self.scene.positions.mean(0) * (0, 0, 1)

        def greet(client: Any) -> None:
            client.camera.position = middle + far * np.array([1.0, -0.6, 0.6])
            client.camera.look_at = middle

        self.server.on_client_connect(greet)

    def _tell(self) -> None:
        player = self.show.player
        self.said.content = f"**{player.config.env}**, {player.run.name}, {player.path.stem} steps"


@shell.command("gpusim.view")
def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with one line of explanation."""
    try:
        options = _parse(sys.argv[1:] if argv is None else argv)
        player = load(options.run, options.checkpoint, seed_index=options.seed_index)
        if importlib.util.find_spec("viser") is None:
            raise ConfigError("a live view needs viser: pip install viser")
        show = Show(player, options.worlds, follow=options.checkpoint is None)
        view = View(show, options.port)
        shell.say(f"{player.path}: open {view.url} in a browser; Ctrl-C ends it")
        view.run(options.seconds)
    except (ConfigError, CheckpointError, OSError) as error:
        return shell.complain("gpusim.view", error)
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m gpusim.view",
        description="Watch the policy of a run, finished or going on, live in a browser.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="run folder that gpusim.train wrote")
    parser.add_argument("--worlds", type=int, default=4, help="how many (default: 4)")
    parser.add_argument("--port", type=int, default=8080, help="of the page (default: 8080)")
    parser.add_argument(
        "--checkpoint", metavar="STEPS|best|FILE", help="which to begin with (default: the newest)"
    )
    parser.add_argument(
        "--seed-index", type=int, default=0, help="which of a run's --num-seeds (default: 0)"
    )
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="end after so many (default: never)"
    )
    options = parser.parse_args(argv)
    if options.worlds < 1:
        raise ConfigError(f"--worlds is {options.worlds}, needs to be at least 1")
    if not 0 <= options.port <= 65535:  # 0: any that is free
        raise ConfigError(f"--port is {options.port}, needs to be from 0 to 65535")
    return options


if __name__ == "__main__":
    sys.exit(main())
