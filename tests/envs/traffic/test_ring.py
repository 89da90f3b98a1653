"""The ring: equilibria, waves out of noise, what removes them; what is seen and rewarded."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs.traffic.loop import Cars, Loop, desired_velocity


def driven(world: Any, steps: int, worlds: int = 4) -> tuple[Any, dict[str, np.ndarray]]:
    """The states after so many idle steps, and the metrics on the way (steps, worlds)."""
    step = jax.vmap(world.step)
    idle = jnp.zeros((worlds, world.action_size))

    def body(state, _):
        state = step(state, idle)
        return state, {**state.metrics, "reward": state.reward, "crash": state.terminated * 1.0}

    state = jax.vmap(world.reset)(jax.random.split(jax.random.key(1), worlds))
    state, seen = jax.jit(lambda state: jax.lax.scan(body, state, length=steps))(state)
    return state, jax.tree.map(np.asarray, seen)


@pytest.mark.parametrize(("length", "speed"), [(220, 3.00), (230, 3.45), (250, 4.36), (270, 5.27)])
def test_without_noise_traffic_flows_evenly(length: int, speed: float):
    ring = gpusim.make(
        "WaveAttenuation", min_length=length, max_length=length, bunching=0.0, noise=0.0,
        warmup=0, controller="human",
    )  # fmt: skip
    _, seen = driven(ring, 1500)
    np.testing.assert_allclose(seen["mean_speed"][-500:], speed, atol=0.01)
    assert seen["speed_spread"][-1].max() < 0.01


def test_noise_makes_waves_and_follower_stopper_removes_them():
    options: dict[str, Any] = {"min_length": 230, "max_length": 230, "warmup": 1500}
    _, human = driven(gpusim.make("WaveAttenuationPO", controller="human", **options), 2000)
    np.testing.assert_allclose(human["mean_speed"].mean(), 2.4, atol=0.05)
    assert human["speed_spread"].min() > 2  # cars stand, and go
    _, calm = driven(
        gpusim.make("WaveAttenuationPO", controller="follower_stopper", **options), 4000
    )
    np.testing.assert_allclose(calm["mean_speed"][-500:].mean(), 0.95 * 3.454, atol=0.02)
    assert calm["speed_spread"][-500:].max() < 0.1
    assert not human["crash"].any()
    assert not calm["crash"].any()


def test_pi_with_saturation_keeps_small_waves_small():
    options: dict[str, Any] = {"min_length": 260, "max_length": 260, "warmup": 0}
    spread = {}
    for controller in ("human", "pi_saturation"):
        _, seen = driven(gpusim.make("WaveAttenuationPO", controller=controller, **options), 4000)
        spread[controller] = seen["speed_spread"][-1000:].mean()
    assert spread["pi_saturation"] < 0.5 * spread["human"], spread


GAP = 230 / 22 - 5
EQUILIBRIA = {  # worked out by hand: where a car as fast as the one GAP ahead of it keeps its speed
    "idm": 3.4545,  # less than 1 mm/s under gap - s0
    "ovm": 15 * (1 - math.cos(math.pi * (GAP - 2) / 13)),
    "linear_ovm": 1.689 * (GAP - 5),
    "cfm": GAP - 1 + 8,
    "bcm": 8.0,
    "lac": GAP - 5,
    "gipps": 2 * (GAP - 2) / 3,  # (v + 1)^2 = 1 + 2 (gap - 2) - v + v^2
    "bando_ftl": 32 * (math.tanh(GAP / 2 - 2) + math.tanh(2)) / (1 + math.tanh(2)),
}


@pytest.mark.parametrize("human", EQUILIBRIA)
def test_every_model_comes_to_its_equilibrium(human: str):
    road = gpusim.make("Accel", controller="human", human=human, noise=0.0, fail_safe="none")
    with jax.enable_x64():  # what is not stable needs longer than this to grow from rounding
        _, seen = driven(road, 500, worlds=1)
    assert not seen["crash"].any()
    np.testing.assert_allclose(seen["mean_speed"][-1], EQUILIBRIA[human], atol=2e-3)


def test_what_the_controlled_car_sees_and_earns_by_hand():
    ring = gpusim.make("WaveAttenuationPO", noise=0.0)
    with jax.enable_x64():
        x = 10.0 * jnp.arange(22)
        v = jnp.full(22, 4.0).at[21].set(3.0).at[0].set(6.0)
        loop = Loop(Cars(x, v, jnp.zeros(22)), jnp.asarray(240.0), (), jax.random.key(0))
        state = ring.start(jax.random.key(0)).replace(carry=loop)
        obs = ring.observation(loop)  # pyright: ignore[reportAttributeAccessIssue]
        # Car 21 is at 210 m, and car 0 at 240 m: 30 m ahead.
        np.testing.assert_allclose(obs, [3 / 15, 3 / 15, 30 / 270], rtol=1e-12)
        after = ring.transition(state, jnp.asarray([-0.5]))
        np.testing.assert_allclose(after.carry.cars.v[21], 2.95)
        np.testing.assert_allclose(after.carry.cars.x[21], 210.295)
        expected = 4 * after.carry.cars.v.mean() / 20 - 4 * 0.5
        np.testing.assert_allclose(after.reward, expected, rtol=1e-12)
        whole = gpusim.make("WaveAttenuation").observation(loop)  # pyright: ignore
        np.testing.assert_allclose(whole, jnp.concatenate([v / 30, x / 240]), rtol=1e-12)


def test_a_crash_ends_the_episode_with_nothing():
    ring = gpusim.make("WaveAttenuationPO", fail_safe="none", noise=0.0, warmup=0)
    with jax.enable_x64():
        state = ring.start(jax.random.key(0))
        cars = Cars(10.0 * jnp.arange(22), jnp.zeros(22).at[21].set(30.0), jnp.zeros(22))
        near = state.carry._replace(cars=cars, length=jnp.asarray(217.0))
        after = ring.transition(state.replace(carry=near), jnp.ones(1))
        assert after.terminated
        assert after.reward == 0
        safe = dataclasses.replace(ring, fail_safe="collision_free")  # type: ignore[type-var]
        assert not safe.transition(state.replace(carry=near), jnp.ones(1)).terminated


def test_the_length_is_drawn_anew_and_the_ends_are_possible():
    ring: Any = gpusim.make("WaveAttenuationPO")
    lengths = jax.vmap(ring.draw_length)(jax.random.split(jax.random.key(0), 2000))
    assert set(np.asarray(lengths).tolist()) == set(range(220, 271))


def test_desired_velocity_by_hand():
    with jax.enable_x64():
        v = jnp.asarray([8.0, 6.0, 99.0])
        here = jnp.asarray([True, True, False])
        # |(10, 10)| = 14.142, |(2, 4)| = 4.472
        expected = (200**0.5 - 20**0.5) / 200**0.5
        np.testing.assert_allclose(desired_velocity(v, here, 10.0), expected, rtol=1e-6)
        assert desired_velocity(v, jnp.zeros(3, bool), 10.0) == 0
        assert desired_velocity(jnp.asarray([50.0]), True, 10.0) == 0


def test_which_cars_are_controlled():
    ours = lambda n, cars: gpusim.make("Accel", controlled=n, cars=cars).ours.tolist()  # pyright: ignore
    assert ours(1, 14) == [13]
    assert ours(7, 14) == [1, 3, 5, 7, 9, 11, 13]
    assert ours(14, 14) == list(range(14))


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="Accel: controlled is 30, not 1 to 22"):
        gpusim.make("Accel", controlled=30)
    with pytest.raises(ValueError, match="do not fit on a ring of 100 to 270 m"):
        gpusim.make("WaveAttenuation", min_length=100)
    with pytest.raises(ValueError, match="it sees with one car"):
        gpusim.make("WaveAttenuationPO", controlled=2)


def test_several_cars_see_and_drive_for_themselves():
    """What each sees, by hand; and one of them alone brakes."""
    world = gpusim.make("MultiAgentAccelPO", controlled=2, noise=0.0)
    step = jax.jit(world.step)
    state = world.reset(jax.random.key(0))
    for _ in range(20):
        state = step(state, jnp.array([[-1.0], [1.0]]))
    cars, length = jax.device_get((state.carry.cars, state.carry.length))
    for row, i in enumerate([10, 21]):
        ahead, behind = (i + 1) % 22, i - 1
        gap = (cars.x[ahead] - cars.x[i]) % length - 5
        back = (cars.x[i] - cars.x[behind]) % length - 5
        seen = [cars.x[i] / length, cars.v[i] / 30, (cars.v[ahead] - cars.v[i]) / 30, gap / length]
        seen += [(cars.v[i] - cars.v[behind]) / 30, back / length]
        np.testing.assert_allclose(state.obs[row], seen, rtol=1e-4, atol=1e-6)
    assert cars.v[10] == 0 < cars.v[21]
    np.testing.assert_array_equal(state.reward, np.full(2, state.reward[0]))
    speed = np.linalg.norm(np.full(22, 20.0)) - np.linalg.norm(cars.v - 20)
    np.testing.assert_allclose(
        state.reward[0], speed / np.linalg.norm(np.full(22, 20.0)), rtol=1e-4
    )
    alike: list[Any] = [
        gpusim.make(f"{several}WaveAttenuationPO") for several in ("", "MultiAgent")
    ]
    assert len({(x.warmup, x.prepared_starts, x.bunching, x.max_accel) for x in alike}) == 1
    wave = gpusim.make("MultiAgentWaveAttenuationPO", prepared_starts=0, warmup=0, noise=0.0)
    found = wave.reset(jax.random.key(0))
    cars, length = jax.device_get((found.carry.cars, found.carry.length))
    gap = (np.roll(cars.x, -1) - cars.x) % length - 5
    np.testing.assert_allclose(found.obs[:, 2], gap[[7, 14, 21]] / 270, rtol=1e-4)
    with pytest.raises(ValueError, match="controlled is 1; it is for two agents or more"):
        gpusim.make("MultiAgentAccelPO", controlled=1)


def test_drivers_may_react_late():
    """Half a second: nobody moves for five steps, and then as who decides anew would have."""
    prompt = gpusim.make("Accel", noise=0.0, controller="human")
    late = gpusim.make("Accel", noise=0.0, controller="human", reaction_time=0.5)
    no, found = jnp.zeros(1), {}
    for name, world in (("prompt", prompt), ("late", late)):
        state, step = world.reset(jax.random.key(0)), jax.jit(world.step)
        found[name] = [np.asarray((state := step(state, no)).carry.cars.v) for _ in range(11)]
    assert (found["late"][4] == 0).all()
    np.testing.assert_allclose(found["late"][5], found["prompt"][0], rtol=1e-6)
    assert (found["late"][10] > found["prompt"][5]).all()  # who saw nobody move goes on to hurry
    for wrong in (-0.1, 0.04, 10.0):
        with pytest.raises(ValueError, match=f"reaction_time is {wrong} s, not whole steps of 0.1"):
            gpusim.make("Accel", reaction_time=wrong)
