"""Worlds with their own numbers, each against C MuJoCo with the same."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import copy
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from gpusim import physics
from gpusim.agents.ppo import PPO, PPOConfig
from gpusim.envs import autoreset, randomize
from gpusim.envs.tasks.brax.ant import Ant
from gpusim.envs.tasks.brax.humanoid import Humanoid
from tests import oracles

WORLDS = 6


class VariedAnt(Ant):
    """In a few lines."""

    def vary(self, key):
        mass, friction, damping = jax.random.split(key, 3)
        return {
            **randomize.masses(mass, self.model, 0.7, 1.4),
            "geom_friction": randomize.scale(friction, self.model.geom_friction, 0.5, 1.5),
            "dof_damping": randomize.scale(damping, self.model.dof_damping, 0.5, 2.0, shared=True),
        }


class VariedHumanoid(Humanoid):
    """Everything that its model has and that may vary."""

    def vary(self, key):
        model, names = self.model, (
            "body_ipos", "jnt_range", "jnt_stiffness", "dof_armature", "geom_size",
            "geom_friction", "actuator_gear", "actuator_gainprm", "actuator_ctrlrange",
        )  # fmt: skip
        keys = jax.random.split(key, len(names) + 3)
        numbers = {
            name: randomize.scale(k, getattr(model, name), 0.8, 1.25)
            for name, k in zip(names, keys, strict=False)
        }
        return numbers | {
            **randomize.masses(keys[-1], model, 0.5, 2.0),
            "gravity": randomize.shift(keys[-2], model.gravity, -1.0, 1.0),
            "qpos0": randomize.shift(keys[-3], model.qpos0, -0.01, 0.01)
            .at[3:7]
            .set(model.qpos0[3:7]),
        }


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def in_c(mj: mujoco.MjModel, numbers: dict[str, np.ndarray]) -> mujoco.MjModel:
    """A model with these numbers, and what MuJoCo derives from them."""
    m = copy.deepcopy(mj)
    for name, value in numbers.items():
        if name == "gravity":
            m.opt.gravity[:] = value
        elif name not in ("mean_inertia", "body_invweight0", "dof_invweight0"):
            limited = m.actuator_ctrllimited.astype(bool)[:, None]
            value = np.where(limited, value, 0) if name == "actuator_ctrlrange" else value
            getattr(m, name)[:] = value
    d = mujoco.MjData(m)
    mujoco.mj_setConst(m, d)
    d.qpos[:] = m.qpos0
    mujoco.mj_forward(m, d)  # the compiler's mean inertia; mj_setConst leaves that one alone
    m.stat.meaninertia = np.diag(oracles.mass_matrix(m, d)).mean()
    return m


@pytest.mark.parametrize("kind", [VariedAnt, pytest.param(VariedHumanoid, marks=pytest.mark.slow)])
def test_each_world_is_c_mujoco_s_with_the_same_numbers(kind, x64):
    env: Any = kind()
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), WORLDS))
    actions = jax.random.uniform(jax.random.key(1), (15, WORLDS, env.action_size), minval=-1.0)
    step = jax.jit(jax.vmap(env.step))
    numbers = jax.tree.map(np.asarray, states.carry.numbers)
    models = [in_c(env.model.mj, {k: x[w] for k, x in numbers.items()}) for w in range(WORLDS)]
    for w, m in enumerate(models):
        for name in ("body_invweight0", "dof_invweight0"):
            np.testing.assert_allclose(numbers[name][w], getattr(m, name), rtol=1e-9)
        assert numbers["mean_inertia"][w] == pytest.approx(m.stat.meaninertia, rel=1e-9)
        assert m.stat.meaninertia != pytest.approx(env.model.mj.stat.meaninertia, rel=1e-3)
    touched = 0
    for action in actions:
        before, states = states, step(states, action)
        for w, m in enumerate(models):
            d = mujoco.MjData(m)
            at = jax.tree.map(lambda x, w=w: np.asarray(x[w]), before.carry.physics)
            d.qpos[:], d.qvel[:], d.qacc_warmstart[:] = at.qpos, at.qvel, at.qacc_warmstart
            low, high = m.actuator_ctrlrange.T
            limited = m.actuator_ctrllimited.astype(bool)
            mapped = (low + high) / 2 + np.asarray(action[w]) * (high - low) / 2
            d.ctrl[:] = np.where(limited, mapped, action[w])
            mujoco.mj_step(m, d, env.n_frames)
            touched += d.ncon > 0
            # 1e-6: solvers that stop after 4 or 8 iterations
            np.testing.assert_allclose(states.carry.physics.qpos[w], d.qpos, rtol=0, atol=1e-6)
            np.testing.assert_allclose(states.carry.physics.qvel[w], d.qvel, rtol=0, atol=1e-4)
    assert touched > WORLDS


@pytest.mark.slow
def test_the_humanoid_sees_its_own_masses():
    env: Any = VariedHumanoid()
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), WORLDS))
    links = np.asarray(states.obs[:, 22 + 23 :][:, :110]).reshape(WORLDS, 11, 10)
    np.testing.assert_allclose(links[..., 9], states.carry.numbers["body_mass"][:, 1:], rtol=1e-5)


def test_numbers_are_drawn_anew_in_every_episode_and_world():
    venv = autoreset(VariedAnt(), 8, episode_length=2)
    state = jax.jit(venv.reset)(jax.random.key(0))
    step = jax.jit(venv.step)
    seen = [np.asarray(state.world.carry.numbers["body_mass"])]
    for _ in range(6):
        before, state = state, step(state, jnp.zeros((8, 8)))
        ended = np.asarray(state.terminated | state.truncated)
        now, past = (s.world.carry.numbers for s in (state, before))
        for name in now:
            kept = np.asarray(now[name] == past[name]).reshape(8, -1).all(1)
            np.testing.assert_array_equal(kept, ~ended)
        seen.append(np.asarray(now["body_mass"])[ended])
    seen = np.concatenate(seen)
    assert len(np.unique(seen, axis=0)) == len(seen) > 24
    ratio = seen[:, 1:] / VariedAnt().model.body_mass[1:]
    assert ((ratio >= 0.7) & (ratio <= 1.4)).all()


def test_worlds_of_all_devices_differ():
    config = PPOConfig(num_envs=8, unroll_length=2, num_minibatches=2)
    state = PPO(config, VariedAnt(), devices=2).init(jax.random.key(0))
    masses = np.asarray(state.envs.world.carry.numbers["body_mass"]).reshape(8, -1)
    assert len(np.unique(masses, axis=0)) == 8


def test_what_cannot_vary_is_named():
    @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
    class Wrong(Ant):
        def vary(self, key):
            return {"body_masses": jnp.ones(14)}

    with pytest.raises(ValueError, match="'body_masses' cannot be replaced; did you mean 'body_m"):
        Wrong().reset(jax.random.key(0))


def test_draws_are_uniform_and_each_its_own():
    values = np.ones((301, 2))
    drawn = randomize.scale(jax.random.key(0), values, 2.0, 5.0)
    assert (drawn[:, 0] == drawn[:, 1]).all()  # a row has one factor
    found = np.sort(np.asarray(drawn[:, 0]))
    assert 2 <= found[0] < 2.1
    assert 4.9 < found[-1] < 5
    assert len(np.unique(found)) == 301
    # Kolmogorov and Smirnov's distance, of which 1.95 / sqrt(n) is surpassed once in a thousand
    assert np.abs((found - 2) / 3 - np.arange(301) / 301).max() < 1.95 / np.sqrt(301)
    shared = randomize.shift(jax.random.key(1), values, -1.0, 1.0, shared=True)
    assert len(np.unique(shared)) == 1


def test_some_rows_may_be_drawn():
    """The others are constants; a world carries what is drawn."""

    @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
    class Slippery(Ant):
        def vary(self, key):
            draw = lambda friction: randomize.scale(key, friction, 0.1, 0.2)
            return {"geom_friction": randomize.some(self.model.geom_friction, [0, 3], draw)}

    env = Slippery()
    numbers = env.reset(jax.random.key(0)).carry.numbers
    assert [x.shape for x in jax.tree.leaves(numbers)] == [(2, 3)]
    found = np.asarray(env.model.replace(**numbers).geom_friction) / env.model.geom_friction
    assert ((found[[0, 3]] > 0.1) & (found[[0, 3]] < 0.2)).all()
    np.testing.assert_allclose(np.delete(found, [0, 3], axis=0), 1)
    wrong = physics.Some(jnp.ones(2), ((0, 3),))
    with pytest.raises(ValueError, match=r"geom_friction has shape \(2, 3\) at \(\(0, 3\),\), not"):
        env.model.replace(geom_friction=wrong)
    with pytest.raises(ValueError, match="geom_friction index 99 is out of bounds"):
        env.model.replace(geom_friction=physics.Some(jnp.ones(3), (99,)))
