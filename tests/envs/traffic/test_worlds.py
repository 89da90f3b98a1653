"""Every traffic world: Flow's sizes, kernels that compute what XLA does, a drawing that fits."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs.traffic import bottleneck, merge

SIZES = {  # observation, action, horizon, control step
    "WaveAttenuation": (44, 1, 3000, 0.1),
    "WaveAttenuationPO": (3, 1, 3000, 0.1),
    "Accel": (44, 1, 1500, 0.1),
    "figureeight0": (28, 1, 1500, 0.1),
    "figureeight1": (28, 7, 1500, 0.1),
    "figureeight2": (28, 14, 1500, 0.1),
    "bottleneck0": (141, 20, 1500, 0.5),
    "bottleneck1": (141, 20, 1500, 0.5),
    "bottleneck2": (281, 40, 1500, 0.5),
    "grid0": (339, 9, 400, 1.0),
    "grid1": (915, 25, 400, 1.0),
    "merge0": (25, 5, 750, 1.0),
    "merge1": (65, 13, 750, 1.0),
    "merge2": (85, 17, 750, 1.0),
    "MultiAgentAccelPO": (6, 1, 1500, 0.1),
    "MultiAgentMergePO": (5, 1, 750, 1.0),
    "MultiAgentWaveAttenuationPO": (3, 1, 3000, 0.1),
    "MultiTrafficLightGridPO": (42, 1, 400, 1.0),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str):
    world = gpusim.make(name)
    sizes = (world.observation_size, world.action_size, world.max_episode_steps, world.dt)
    assert sizes == SIZES[name]
    assert world.name == name


ONE_OF_EACH = ["WaveAttenuationPO", "figureeight1", "grid0", "merge1"]  # bottlenecks compile long


@pytest.fixture(
    params=[
        *(f"{name}, short" for name in ONE_OF_EACH),
        *(pytest.param(name, marks=pytest.mark.slow) for name in SIZES),
    ],
    ids=lambda name: name.replace(", ", "-"),
)
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each, and some quickly; the merge with lanes that have room for few cars is compiled in a
    fifth of the time."""
    name, _, short = request.param.partition(", ")
    if short:
        monkeypatch.setattr(merge, "SLOTS", 24)
        monkeypatch.setattr(merge, "RAMP_SLOTS", 8)
    return gpusim.make(name)


def started(world: Any, keys: jax.Array, step: Any) -> Any:
    """What `start` is, by XLA. A bottleneck's are steps without control: those that `step` makes,
    since XLA takes long for each program that has them."""
    if not isinstance(world, bottleneck.Bottleneck):
        return jax.jit(jax.vmap(world.start))(keys)
    later, first = jnp.swapaxes(jax.vmap(jax.random.split)(keys), 0, 1)
    begin = jax.jit(jax.vmap(world.begin_prepared))
    empty = jax.jit(jax.vmap(dataclasses.replace(world, warmup=0).prepare))(first)
    state = begin(empty.key, empty)
    for _ in range(world.warmup):
        state = step(state, jnp.zeros((len(keys), *world.action_shape)))
    return begin(later, state.carry)


def test_the_kernel_computes_what_xla_does(world: Any):
    keys = jax.random.split(jax.random.key(2), 3)
    with jax.enable_x64():
        ours = jax.vmap(world.reset)(keys)
        step = jax.jit(jax.vmap(world.transition))
        theirs = started(world, keys, step)
        shape = (10, 3, *world.action_shape)
        actions = jax.random.uniform(jax.random.key(3), shape, minval=-1)
        for action in actions:
            for a, b in zip(
                jax.tree.leaves(ours.carry), jax.tree.leaves(theirs.carry), strict=True
            ):
                if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(ours.obs, theirs.obs, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(ours.reward, theirs.reward, rtol=1e-6, atol=1e-6)
            ours, theirs = jax.vmap(world.step)(ours, action), step(theirs, action)


def test_the_drawing_is_posed(world: Any):
    import mujoco

    model = world.drawing()
    state = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 2))
    qpos = np.asarray(jax.jit(jax.vmap(world.pose))(state))
    assert qpos.shape == (2, model.nq)
    assert np.isfinite(qpos).all()
    data = mujoco.MjData(model)  # pyright: ignore[reportAttributeAccessIssue]
    data.qpos[:] = qpos[0]
    mujoco.mj_kinematics(model, data)  # pyright: ignore[reportAttributeAccessIssue]
    assert np.isfinite(data.xpos).all()
