"""The tasks against Brax's own: same start, same actions, same observations, rewards and ends."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim import physics
from tests.envs.brax_oracle import BraxOnC, brax_envs
from tests.oracles import asset

# Options that make ends frequent, so that the comparison sees both outcomes.
CASES = {
    "ant": {"healthy_z_range": (0.45, 0.6)},
    "humanoid": {"forward_reward_weight": 2.0},
    "half_cheetah": {"exclude_current_positions_from_observation": False},
    "hopper": {},
    "walker2d": {"terminate_when_unhealthy": False},
    "inverted_pendulum": {},
    "inverted_double_pendulum": {},
    "reacher": {},
    "swimmer": {},
    "pusher": {},
    "humanoidstandup": {},
}
ENDLESS = ("half_cheetah", "walker2d", "reacher", "swimmer", "pusher", "humanoidstandup")


# Of an mjModel: what is only seen, or says where something is kept.
_NOT_PHYSICS = ("nbuffer", "narena", "nnames", "nnumeric", "signature", "nkey", "key_", "nuser")
_SEEN = ("cam", "light", "mat", "tex", "geom_rgba", "name", "numeric", "geom_user")


def brax_model(name: str) -> mujoco.MjModel:
    """Brax's file, with bodies that have no joint fused into their parents, as Brax does."""
    tree = mujoco.MjSpec.from_file(str(asset(name)))
    tree.compiler.fusestatic = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Brax's files use deprecated attributes
        return tree.compile()


@pytest.mark.parametrize("name", CASES)
def test_models_are_braxs(name):
    """All numbers of the compiled model, the solver's options included; names of joints too."""
    ours, brax = gpusim.make(name).model.mj, brax_model(name)  # pyright: ignore
    compared = 0
    for owner in ((ours, brax), (ours.opt, brax.opt)):
        for field in dir(owner[0]):
            mine, theirs = (getattr(x, field) for x in owner)
            shown = any(word in field for word in _SEEN) or field.startswith(_NOT_PHYSICS)
            if field.startswith("_") or shown or not isinstance(mine, np.ndarray | int | float):
                continue
            np.testing.assert_allclose(mine, theirs, rtol=1e-13, atol=1e-13, err_msg=field)
            compared += 1
    assert compared > 250
    joints = lambda m: [m.joint(i).name for i in range(m.njnt)]
    assert joints(ours) == joints(brax)


@pytest.fixture
def x64():
    """Double precision: two engines then agree far beyond what a wrong formula could hide in."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_brax(name, x64):
    env: Any = gpusim.make(name, **CASES[name])
    oracle = BraxOnC(name, env.model.mj, **CASES[name])
    key = jax.random.key(3)
    state, step = env.reset(key), jax.jit(env.step)
    expected = oracle.reset(key)
    np.testing.assert_allclose(state.obs, expected.obs, rtol=1e-9, atol=1e-9)

    actions = np.random.default_rng(0).uniform(-1, 1, (40, env.action_size))
    ends = set()
    for action in actions:
        state, expected = step(state, jnp.array(action)), oracle.step(jnp.array(action))
        # 1e-7: solvers that stop after 4 iterations, and 40 steps for the difference to grow in.
        np.testing.assert_allclose(state.obs, expected.obs, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(state.reward, expected.reward, rtol=1e-7, atol=1e-7)
        assert bool(state.terminated) == bool(expected.done)
        ends.add(bool(expected.done))
        for ours, theirs in same_metrics(state.metrics, expected.metrics).values():
            np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)
    if name not in ENDLESS:
        assert ends == {False, True}  # else the comparison of ends said nothing


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ant", "humanoid", "hopper"])
def test_agrees_with_brax_on_mjx(name, x64):
    """Nothing of ours and nothing of C MuJoCo's in the oracle; both solvers run to convergence.

    Brax's shortcuts (one iteration, explicit damping) are taken back: we solve as the file says.
    """
    mj = brax_model(name)
    mj.opt.iterations, mj.opt.ls_iterations, mj.opt.tolerance = 100, 100, 1e-12

    class Converged(type(gpusim.make(name))):
        model: Any = physics.load(mj)

    env: Any = Converged()  # type: ignore[abstract]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        brax: Any = brax_envs.get_environment(name, backend="mjx")
    options = {"iterations": 100, "ls_iterations": 100, "tolerance": 1e-12, "disableflags": 0}
    brax.sys = brax.sys.tree_replace({f"opt.{k}": v for k, v in options.items()})
    key = jax.random.key(5)
    state, expected = env.reset(key), jax.jit(brax.reset)(key)
    np.testing.assert_allclose(state.obs, expected.obs, rtol=1e-9, atol=1e-9)
    step, brax_step = jax.jit(env.step), jax.jit(brax.step)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, env.action_size)):
        state, expected = step(state, jnp.array(action)), brax_step(expected, jnp.array(action))
        np.testing.assert_allclose(state.obs, expected.obs, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(state.reward, expected.reward, rtol=1e-5, atol=1e-5)
        assert bool(state.terminated) == bool(expected.done)


def same_metrics(ours: Any, brax: Any) -> dict[str, tuple[Any, Any]]:
    """Metrics that both have, by our names: ours, and what it is to be."""
    names = ("forward", "run", "linvel", "fwd")
    forward = next((brax[f"reward_{name}"] for name in names if f"reward_{name}" in brax), None)
    ctrl, near = brax.get("reward_ctrl", brax.get("reward_quadctrl")), brax.get("reward_near")
    if near is not None:  # the pusher's are told before they are weighted
        ctrl, near = 0.1 * ctrl, 0.5 * near
    pairs = {"reward_forward": forward, "reward_ctrl": ctrl, "reward_near": near}
    same = ("x_position", "x_velocity", "reward_dist", "reward_linup")
    pairs |= {name: brax.get(name) for name in same}
    pairs = {name: x for name, x in pairs.items() if x is not None}  # pendulums have none
    assert pairs.keys() <= ours.keys()
    return {name: (ours[name], expected) for name, expected in pairs.items()}
