"""Sumo: both robots see and earn alike, and it is C MuJoCo's motion."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gpusim
from gpusim.envs import engines

SUMO: Any = gpusim.make("sumo")
SWAP = jnp.array([3, 4, 5, 0, 1, 2])


def played(world: Any, steps: int) -> list[Any]:
    state = jax.jit(world.reset)(jax.random.key(3))
    actions = jax.random.uniform(jax.random.key(4), (steps, 2, 2), minval=-1).at[:, :, 0].add(0.7)
    step, states = jax.jit(world.step), [state]
    for action in jnp.clip(actions, -1, 1):
        states.append(step(states[-1], action))
    return states


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


def test_it_is_c_mujoco_s_motion():
    """Through contacts of the two; both make the same start and the same steps."""
    ours, theirs = played(SUMO, 60), played(engines.in_mujoco(SUMO), 60)
    nearest = min(float(state.metrics["apart"]) for state in ours)
    assert nearest < 0.6
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.obs, b.obs, atol=2e-3)
        np.testing.assert_allclose(a.reward, b.reward, atol=2e-3)
        assert a.terminated == b.terminated
