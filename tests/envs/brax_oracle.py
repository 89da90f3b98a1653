"""Brax's own tasks on C MuJoCo's physics: the oracle for observation, reward and termination.

Brax computes everything but the physics; C MuJoCo takes the place of MJX, whose compilation costs a
minute a task. `test_tasks.py` also compares with MJX itself, marked slow.
"""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.experimental import io_callback

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Brax announces that it is no longer developed
    from brax import base
    from brax import envs as brax_envs

    BRAX_NAMES = {"half_cheetah": "halfcheetah"}


class BraxOnC:
    """One world of a Brax environment (backend "mjx"), with C MuJoCo stepping the given model."""

    def __init__(self, name: str, model: mujoco.MjModel, **options: Any):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            backend = "generalized" if name == "swimmer" else "mjx"  # it has no other
            self.brax: Any = brax_envs.get_environment(
                BRAX_NAMES.get(name, name), backend=backend, **options
            )
        self.model, self.data = model, mujoco.MjData(model)
        self.brax.pipeline_init = self._init
        self.brax.pipeline_step = self._step
        self._jitted_step = jax.jit(self.brax.step)
        self.state: Any = None

    def reset(self, key: Any) -> Any:
        """Brax's reset; returns its state."""
        self.state = self.brax.reset(key)
        return self.state

    def step(self, action: Any) -> Any:
        """Brax's step; returns its state."""
        self.state = self._jitted_step(self.state, action)
        return self.state

    def _init(self, q: Any, qd: Any) -> base.State:
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = q, qd
        mujoco.mj_normalizeQuat(self.model, self.data.qpos)  # MJX's forward pass does
        mujoco.mj_forward(self.model, self.data)
        self.data.qacc_warmstart[:] = 0  # our first step has no warm start either
        return jax.tree.map(jnp.asarray, self._read())

    def _step(self, before: base.State, ctrl: Any) -> base.State:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), before)
        return io_callback(self._c_step, shapes, ctrl, ordered=True)

    def _c_step(self, ctrl: Any) -> base.State:
        self.data.ctrl[:] = ctrl
        mujoco.mj_step(self.model, self.data, self.brax._n_frames)
        return self._read()

    def _read(self) -> base.State:
        """What `brax/mjx/pipeline.py` reads from MJX's data, read from MuJoCo's."""
        d, com = self.data, self.data.subtree_com[self.model.body_rootid[1:]]
        x = base.Transform(pos=d.xpos[1:].copy(), rot=d.xquat[1:].copy())
        angular, linear = d.cvel[1:, :3].copy(), d.cvel[1:, 3:]
        linear = linear + np.cross(angular, x.pos - com)  # from the centre of mass to the link
        xd = base.Motion(ang=angular, vel=linear)
        return base.State(q=d.qpos.copy(), qd=d.qvel.copy(), x=x, xd=xd, contact=None)
