"""Gymnasium's own environments beside ours: same state, same action, what each makes of it."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

import gpusim
from gpusim import physics
from gpusim.envs.tasks.gymnasium.task import file_of

# Importing them imports a renderer that wants imageio, which need not be there: nothing is drawn.
if "imageio" not in sys.modules and importlib.util.find_spec("imageio") is None:
    sys.modules["imageio"] = types.ModuleType("imageio")
    importlib.import_module("gymnasium.envs.mujoco")
    del sys.modules["imageio"]
gymnasium: Any = importlib.import_module("gymnasium")

# Their files ask for PGS, which stops short of the optimum that Newton's method reaches. C solves
# islands of constraints one by one, so the two stop at different moments: late enough here.
CONVERGED = ("Humanoid-v5", "HumanoidStandup-v5")


class Seen(NamedTuple):
    """A step, as one of the two saw it."""

    obs: np.ndarray
    reward: float
    terminated: bool
    info: dict[str, float]


class Beside:
    """One world of a task, and the original.

    The physics state of ours is set to theirs before every step, so that steps are compared, not
    histories; what our task remembers is its own.
    """

    def __init__(self, name: str, seed: int = 0, **options: Any):
        renamed = {"frame_skip" if k == "n_frames" else k: v for k, v in options.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.env: Any = gymnasium.make(name, **renamed).unwrapped
        self.world: Any = gpusim.make(name, **options)
        if name in CONVERGED:
            mj = mujoco.MjModel.from_xml_path(str(file_of(name, self.world.xml_file)))
            for model in (self.env.model, mj):
                model.opt.solver, model.opt.tolerance = mujoco.mjtSolver.mjSOL_NEWTON, 1e-12
            vars(self.world)["model"] = physics.load(mj)
        self.rng, self.seed, self.ours = np.random.default_rng(seed), seed, None
        self._step = jax.jit(self.world.step)
        self._begin: Callable = jax.jit(lambda q, v: self.world.begin(jax.random.key(0), q, v))

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """A start of theirs; what both see."""
        self.seed += 1
        obs, _ = self.env.reset(seed=self.seed)
        return np.asarray(self._start_ours().obs), obs

    def start_anywhere(self, far: float) -> None:
        """A state of its own: joints moved by up to `far`, all in motion."""
        m = self.env.model
        qpos = self.env.init_qpos.copy()
        mujoco.mj_integratePos(m, qpos, self.rng.uniform(-far, far, m.nv), 1.0)
        self.env.reset()
        self.env.set_state(qpos, self.rng.uniform(-1, 1, m.nv))
        self._start_ours()

    def step(self) -> tuple[Seen, Seen]:
        """The same random action for both: ours and theirs."""
        action = self.rng.uniform(-1, 1, self.world.action_size)
        low, high = self.env.model.actuator_ctrlrange.T
        d, before = self.env.data, self.ours
        # Copies: JAX may read an array later than it is given, and theirs change in place.
        state = physics.State(*(jnp.array(x.copy()) for x in (d.qpos, d.qvel, d.qacc_warmstart)))
        before = before.replace(carry=before.carry._replace(physics=state))
        self.ours = now = self._step(before, jnp.array(action))
        theirs = self.env.step((low + high) / 2 + (high - low) / 2 * action)
        assert not theirs[3]
        info = {k: float(v) for k, v in _numbers(theirs[4])}
        measured = {k: float(now.metrics[k]) for k in info}
        assert not now.metrics["diverged"]
        return (
            Seen(np.asarray(now.obs), float(now.reward), bool(now.terminated), measured),
            Seen(theirs[0], float(theirs[1]), bool(theirs[2]), info),
        )

    def _start_ours(self) -> Any:
        d = self.env.data
        self.ours = self._begin(jnp.array(d.qpos.copy()), jnp.array(d.qvel.copy()))
        return self.ours


def _numbers(info: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in info.items():
        if np.ndim(value):
            yield from ((f"{name}_{k}", x) for k, x in enumerate(value))
        else:
            yield name, value


def error(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to 1 + the size of each number."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float((np.abs(ours - theirs) / (1 + np.abs(theirs))).max())
