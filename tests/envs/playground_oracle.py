"""MuJoCo Playground's own environments beside ours: same state, same action, same numbers.

Their code judges what C MuJoCo computes: MJX, which they run on, finds contacts of some shapes
otherwise. Only the package's own files are needed: what it imports for pictures is stubbed, and
meshes that are only looked at are stood for by a tetrahedron.
"""
# pyright: reportAttributeAccessIssue=false

import importlib
import re
import struct
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim import lanes
from gpusim.envs.mujoco_task import Carry
from gpusim.envs.tasks.playground import files
from gpusim.envs.world import PRIVILEGED, State
from gpusim.physics import Mocap
from gpusim.physics import State as Physics

for _name in ("mediapy", "lxml", "lxml.etree", "tqdm"):
    try:
        importlib.import_module(_name)
    except ImportError:
        sys.modules[_name] = types.ModuleType(_name)

playground: Any = pytest.importorskip("mujoco_playground")

_ITERATIONS = 100  # of both solvers, so that both end at the optimum
# Of mjData, what these tasks read.
_FIELDS = ("qpos", "qvel", "qacc_warmstart", "qacc", "xpos", "xmat", "site_xpos", "site_xmat",
           "sensordata", "actuator_force")  # fmt: skip


def load(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, **overrides: Any) -> Any:
    """Playground's environment on C MuJoCo, whose solver goes on to the end; folder: of Menagerie,
    or an empty one; overrides: of its configuration."""
    from mujoco import mjx
    from mujoco_playground._src import mjx_env
    from mujoco_playground._src.locomotion.g1 import base as g1
    from mujoco_playground._src.locomotion.go1 import base as go1
    from mujoco_playground._src.manipulation.leap_hand import base as leap

    monkeypatch.setattr(mjx_env, "MENAGERIE_PATH", folder)
    monkeypatch.setattr(jnp, "clip", _with_older_words(jnp.clip))
    for module in (go1, g1, leap):
        monkeypatch.setattr(module, "get_assets", _with_meshes(module.get_assets))
    env = playground.registry.load(name, config_overrides=overrides | {"impl": "jax"})
    env.mj_model.opt.iterations = env.mj_model.opt.ls_iterations = _ITERATIONS
    env.mj_model.opt.tolerance = 0
    env.mj_model.opt.ccd_iterations, env.mj_model.opt.ccd_tolerance = 50, 1e-12
    by_c = _InC(env.mj_model)
    monkeypatch.setattr(mjx, "forward", lambda _, data: by_c(data, data.ctrl, 0))
    monkeypatch.setattr(mjx_env, "step", lambda _, data, ctrl, n=1: by_c(data, ctrl, n))
    return env


def _with_older_words(clip: Callable) -> Callable:
    """jnp.clip as it was called when some of their code was written, too."""
    renamed = {"a_min": "min", "a_max": "max"}

    def clipped(*arguments: Any, **words: Any) -> Any:
        return clip(*arguments, **{renamed.get(word, word): x for word, x in words.items()})

    return clipped


class _InC:
    """C MuJoCo as a function of MJX's data."""

    def __init__(self, model: mujoco.MjModel):
        self.model, self.data = model, mujoco.MjData(model)

    def __call__(self, data: Any, ctrl: jax.Array, steps: int) -> Any:
        """The data after so many steps; after none, with what follows from its state."""
        shapes = [jax.ShapeDtypeStruct(getattr(data, f).shape, float) for f in _FIELDS]
        at = data.qpos, data.qvel, data.qacc_warmstart, data.mocap_pos, data.mocap_quat, ctrl
        at = *at, data.xfrc_applied
        found = jax.pure_callback(lambda *at: self._computed(steps, *at), shapes, *at)
        return data.replace(ctrl=ctrl, **dict(zip(_FIELDS, found, strict=True)))

    def _computed(self, steps: int, *at: Any) -> list[np.ndarray]:
        d = self.data
        names = "qpos", "qvel", "qacc_warmstart", "mocap_pos", "mocap_quat", "ctrl", "xfrc_applied"
        for name, value in zip(names, at, strict=True):
            getattr(d, name)[:] = value
        if not steps:
            mujoco.mj_forward(self.model, d)
        for _ in range(steps):
            mujoco.mj_step(self.model, d)
        read = lambda name: np.array(getattr(d, name))
        matrix = lambda name, x: x.reshape(-1, 3, 3) if name.endswith("mat") else x
        return [matrix(name, read(name)) for name in _FIELDS]


def _with_meshes(get_assets: Callable[[], dict[str, bytes]]) -> Callable[[], dict[str, bytes]]:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    sides = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]
    facet = lambda side: bytes(12) + corners[list(side)].tobytes() + bytes(2)
    stl = bytes(80) + struct.pack("<I", len(sides)) + b"".join(map(facet, sides))
    lines = [("v", corner) for corner in corners] + [("f", np.add(side, 1)) for side in sides]
    obj = "\n".join(f"{kind} {' '.join(map(str, of))}" for kind, of in lines).encode()

    def found() -> dict[str, bytes]:
        assets = get_assets()
        for text in [data.decode() for name, data in assets.items() if name.endswith(".xml")]:
            for file in re.findall(r'file="([^"]+\.(?:stl|STL|obj))"', text):
                assets.setdefault(file.rpartition("/")[2], obj if file.endswith("obj") else stl)
        return assets

    return found


def ours(name: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    """Our task, whose solver goes on to the end."""
    read = files.read

    def precise(*arguments: Any) -> mujoco.MjModel:
        mj = read(*arguments)
        mj.opt.iterations = mj.opt.ls_iterations = _ITERATIONS
        mj.opt.tolerance = 0
        return mj

    monkeypatch.setattr(files, "read", precise)
    return gpusim.make(name, **options)


class Beside:
    """Both, in the same states."""

    def __init__(self, env: Any, world: Any, remembered: Callable[[Any], Any]):
        self.env, self.world, self.remembered = env, world, remembered
        self.numbers: Mapping[str, Any] = {}  # of the model, of our world alone
        self.reset, self.theirs = jax.jit(env.reset), jax.jit(env.step)
        self.ours = jax.jit(lanes.kernel(world.transition))
        self.random = np.random.default_rng(0)
        self.state: Any = None

    def start(self, seed: int) -> None:
        """Where an episode of theirs begins."""
        self.state = self.reset(jax.random.PRNGKey(seed))

    def step(self) -> tuple[State, Any, Any]:
        """Both from the same state by the same action: ours, theirs, and what they remember as we
        do."""
        data = self.state.data
        at = Physics(data.qpos, data.qvel, data.qacc_warmstart)
        if self.world.model.mj.nmocap:
            at = at._replace(mocap=Mocap(data.mocap_pos, data.mocap_quat))
        carry = Carry(at, self.remembered(self.state), self.numbers)
        dummy = jnp.zeros(())
        before = State(carry, None, dummy, dummy > 0, dummy > 0, {})
        action = jnp.asarray(self.random.uniform(-1, 1, self.world.action_size))
        mine = self.ours(before, action)
        self.state = self.theirs(self.state, action)
        return mine, self.state, self.remembered(self.state)


def differences(world: Any, mine: State, theirs: Any, remembered: Any) -> dict[str, float]:
    """The largest, of each part of a step; of numbers above 1 relative to them."""
    array = lambda x: np.asarray(x, float)
    scale = lambda x: np.maximum(np.abs(array(x)), 1.0)
    apart = lambda a, b: float(np.max(np.abs(array(a) - array(b)) / scale(b), initial=0))
    seen, shown = ({"": x.obs} if not isinstance(x.obs, Mapping) else x.obs for x in (mine, theirs))
    found = {
        "qpos": apart(mine.carry.physics.qpos, theirs.data.qpos),
        "qvel": apart(mine.carry.physics.qvel, theirs.data.qvel),
        "reward": apart(mine.reward, theirs.reward),
        "terminated": apart(mine.terminated, theirs.done),
    }
    for name, value in shown.items():
        found[f"obs {name}"] = apart(
            seen[PRIVILEGED if name == "privileged_state" else name], value
        )
    for name, value in theirs.metrics.items():
        term = name.removeprefix("reward/")
        if term == "success":  # whether there is one
            found[term] = apart(mine.metrics["reward_success"], value * world.success_reward)
        elif term != name:  # weighted, and not yet times the length of a step
            found[term] = apart(mine.metrics[f"reward_{term}"], value * world.dt)
        elif weight := getattr(world, f"{name}_weight", None):
            found[name] = apart(mine.metrics[f"reward_{name}"], value * weight)
        else:
            found[name] = apart(mine.metrics[name], value)
    memory = mine.carry.memory
    if hasattr(memory, "seen"):
        memory = memory._replace(seen=remembered.seen)
    for k, (a, b) in enumerate(
        zip(jax.tree.leaves(memory), jax.tree.leaves(remembered), strict=True)
    ):
        found[f"memory {k}"] = apart(a, b)
    return found
