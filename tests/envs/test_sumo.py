"""Sumo: both robots see and earn alike, and it is C MuJoCo's motion."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

import gpusim

SUMO: Any = gpusim.make("sumo")
SWAP = jnp.array([3, 4, 5, 0, 1, 2])


def test_both_see_and_earn_alike():
    """Who changes places changes what is seen and earned."""
    key = jax.random.key(0)
    qpos, qvel = jax.random.uniform(key, (6,), minval=-2), jax.random.normal(key, (6,))
    step = jax.jit(SUMO.step)
    ways = {}
    for name, order in (("as is", jnp.arange(6)), ("swapped", SWAP)):
        state = SUMO.begin(key, qpos[order], qvel[order])
        action = jnp.array([[0.5, -1.0], [1.0, 0.3]])
        after = step(state, action if name == "as is" else action[::-1])
        ways[name] = (state.obs, after.obs, after.reward)
    for a, b in zip(ways["as is"], ways["swapped"], strict=True):
        np.testing.assert_allclose(a, b[::-1], rtol=1e-4, atol=1e-5)


def test_what_red_sees_by_hand():
    """Red stands 1 m east of the middle and faces north; blue is 1 m north of it and faces west."""
    qpos = jnp.array([1.0, 0.0, jnp.pi / 2, 1.0, 1.0, jnp.pi])
    qvel = jnp.array([0.3, 0.6, 1.0, -0.9, 0.0, 2.0])
    red = SUMO.begin(jax.random.key(0), qpos, qvel).obs[0]
    expected = [0, 0.5]  # the middle is 1 m to the left
    expected += [0.2, -0.1, 0.2]  # drives ahead, and to the right, and turns
    expected += [0.5, 0, 0, 0.3]  # blue is ahead, and drives to the left
    expected += [0, 1, 0.4]  # it is turned by a quarter to the left
    np.testing.assert_allclose(red, expected, atol=1e-6)


def test_who_leaves_the_ring_loses():
    out = jnp.array([0.5, 0.0, 0.0, 2.1, 0.0, 0.0])
    start = SUMO.begin(jax.random.key(0), out, jnp.zeros(6))
    after = SUMO.step(start, jnp.zeros((2, 2)))
    assert after.terminated
    np.testing.assert_allclose(after.reward, [10 + 0.02 * 1.6, -10 - 0.02 * 1.6], rtol=1e-4)
    assert not SUMO.step(SUMO.reset(jax.random.key(0)), jnp.zeros((2, 2))).terminated


def test_a_push_is_c_mujoco_s():
    """Red drives at blue, which does nothing, and pushes it out of the ring."""
    start, action = np.array([-0.8, 0.05, 0.0, 0.2, 0.0, 2.0]), np.array([[0.8, 0.0], [0.0, 0.0]])
    mj = mujoco.MjModel.from_xml_string(SUMO.mjcf)
    data = mujoco.MjData(mj)
    data.qpos[:], data.ctrl[:] = start, action.ravel()
    with jax.enable_x64(True):
        world: Any = gpusim.make("sumo")
        step = jax.jit(world.step)
        state = world.begin(jax.random.key(0), jnp.array(start), jnp.zeros(6))
        while not state.terminated:
            state = step(state, jnp.array(action))
            mujoco.mj_step(mj, data, 5)
            np.testing.assert_allclose(state.carry.physics.qpos, data.qpos, atol=1e-7)
            np.testing.assert_allclose(state.carry.physics.qvel, data.qvel, atol=1e-6)
            assert data.time < 10
    assert np.hypot(*data.qpos[3:5]) > 2  # it is blue that is out
    np.testing.assert_allclose(state.reward, [10, -10], atol=0.1)
