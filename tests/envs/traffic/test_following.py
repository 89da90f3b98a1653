"""Car following: numbers worked out by hand, equilibria and stability that the literature knows."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim.envs.traffic import following
from gpusim.envs.traffic.following import LENGTH, MODELS, Sight
from gpusim.envs.traffic.safety import (
    collision_free,
    feasible,
    instantaneous,
    noisy,
    safe_velocity,
    slower,
)

SEE = Sight(v=10.0, v_lead=8.0, gap=20.0, v_behind=9.0, gap_behind=12.0, a=0.5)
BY_HAND = {
    # s* = 2 + 10 + 20 / (2 sqrt 1.5) = 20.16497; 1 - 1/81 - (s*/20)^2
    "idm": 1 - 1 / 81 - ((12 + 10 / math.sqrt(1.5)) / 20) ** 2,
    "ovm": (30 - 10) - 2.0,  # 20 m is beyond h_go
    "linear_ovm": (1.689 * 15 - 10) / 0.65,
    "cfm": 19 - 2 - 2.0,
    "bcm": 8 + (-2 - 1) - 2.0,
    # u = 0.3 (20 - 5 - 10) - 0.8 = 0.7, reached at once: dt = tau
    "lac": 0.7,
    # safe = -1 + sqrt(1 + 36 - 10 + 64); free is faster, v0 too
    "gipps": (-1 + math.sqrt(91) - 10) / 0.1,
    "bando_ftl": 0.5 * (32 * (math.tanh(8) + math.tanh(2)) / (1 + math.tanh(2)) - 10) - 0.1,
}


@pytest.mark.parametrize("name", MODELS)
def test_by_hand(name: str):
    with jax.enable_x64():
        np.testing.assert_allclose(MODELS[name](SEE), BY_HAND[name], rtol=1e-12)


def test_by_hand_in_the_other_pieces():
    with jax.enable_x64():
        middle = following.ovm(Sight(v=4.0, v_lead=4.0, gap=8.5))  # half way: V = 15
        np.testing.assert_allclose(middle, 11.0, rtol=1e-12)
        assert following.ovm(Sight(v=4.0, v_lead=4.0, gap=1.0)) == -4.0
        assert following.linear_ovm(Sight(v=1.3, v_lead=0.0, gap=4.0)) == -2.0
        free = following.gipps(Sight(v=0.0, v_lead=30.0, gap=1e4))
        np.testing.assert_allclose(free, 3.75 * math.sqrt(0.025) / 0.1, rtol=1e-12)
        stuck = following.gipps(Sight(v=2.0, v_lead=0.0, gap=0.5))  # no real root
        np.testing.assert_allclose(stuck, (-1 - 2) / 0.1, rtol=1e-12)
        # An opening gap never pushes: s* is s0 at least.
        away = following.idm(Sight(v=1.0, v_lead=29.0, gap=2.0))
        np.testing.assert_allclose(away, 1 - 1 / 30**4 - 1, atol=1e-12)


@pytest.mark.parametrize(
    ("length", "speed"),
    [(220, 3.00), (230, 3.45), (240, 3.91), (250, 4.36), (260, 4.82), (270, 5.27)],
)
def test_equilibrium_of_22_cars_on_a_ring(length: float, speed: float):
    v = following.equilibrium_speed(jnp.asarray(length / 22 - LENGTH))
    np.testing.assert_allclose(v, speed, atol=0.006)
    with jax.enable_x64():  # Treiber: gap = (s0 + v T) / sqrt(1 - (v/v0)^4)
        gap = (2 + speed) / math.sqrt(1 - (speed / 30) ** 4)
        np.testing.assert_allclose(following.equilibrium_speed(jnp.asarray(gap)), speed, rtol=1e-9)
    assert following.equilibrium_speed(jnp.asarray(1.0)) == 0


@pytest.mark.parametrize(
    ("alpha", "beta", "gap"), [(1.0, 0.0, 8.5), (9.0, 0.0, 8.5), (1.0, 2.0, 8.5), (1.0, 2.0, 3.0)]
)
def test_waves_of_the_optimal_velocity_model_grow_as_the_literature_says(alpha, beta, gap):
    """Uniform flow is stable just where V' < alpha / 2 + beta (Bando 1995; Treiber, Kesting)."""
    with jax.enable_x64():
        slope = 15 * math.pi / 13 * math.sin(math.pi * (gap - 2) / 13)
        v = 15 * (1 - math.cos(math.pi * (gap - 2) / 13))
        n = 40
        step = jnp.arange(n) * 2 * jnp.pi / n
        x = jnp.arange(n) * (gap + LENGTH) + 0.01 * jnp.sin(step)

        def move(_, cars):
            x, v = cars
            ahead = jnp.roll(x, -1).at[-1].add(n * (gap + LENGTH))
            see = Sight(v, jnp.roll(v, -1), ahead - x - LENGTH)
            v = v + 0.01 * following.ovm(see, alpha=alpha, beta=beta)
            return x + 0.01 * v, v

        _, speeds = jax.lax.fori_loop(0, 4000, move, (x, jnp.full(n, v)))
        spread = float(speeds.max() - speeds.min())
    first = 2 * 0.01 * slope  # of the speeds that drivers first wish for
    assert (spread < first) == (slope < alpha / 2 + beta), (spread, first)


def test_noise_grows_with_the_root_of_the_step():
    key = jax.random.key(0)
    for dt in (0.1, 0.5):
        a = noisy(jnp.zeros(100_000), key, 0.2, dt)
        np.testing.assert_allclose(a.std(), 0.2 * math.sqrt(dt), rtol=0.01)


def test_fail_safes_by_hand():
    with jax.enable_x64():
        near = Sight(v=10.0, v_lead=0.0, gap=1.2)
        assert instantaneous(jnp.asarray(0.0), near) == -100.0  # 1.2 < 1 + 0.01 + 0.5
        assert instantaneous(jnp.asarray(-5.0), near._replace(gap=1.5)) == -5.0
        # 2 * 1.2 / 0.1 - 10 = 14 m/s, or 4 with a delay of half a second
        np.testing.assert_allclose(safe_velocity(jnp.asarray(50.0), near), 40.0)
        np.testing.assert_allclose(safe_velocity(jnp.asarray(0.0), near, delay=0.5), -60.0)
        np.testing.assert_allclose(safe_velocity(jnp.asarray(0.0), near, delay=5.0), -100.0)
        # -0.45 + sqrt(0.2025 + 9 * 1.2) = 2.867 m/s
        bound = -0.45 + math.sqrt(0.2025 + 10.8)
        np.testing.assert_allclose(collision_free(jnp.asarray(0.0), near), (bound - 10) * 10)
        assert collision_free(jnp.asarray(-80.0), near) == -80.0
        assert feasible(jnp.asarray(9.0)) == 2.6
        assert feasible(jnp.asarray(-9.0)) == -4.5
        np.testing.assert_allclose(slower(jnp.asarray(3.0), near, 10.1), 1.0)


def test_collision_free_stops_behind_a_wall_without_braking_harder_than_b():
    with jax.enable_x64():
        gap, v, hardest = 50.0, 15.0, 0.0
        for _ in range(200):
            a = float(collision_free(jnp.asarray(3.0), Sight(v=v, v_lead=0.0, gap=gap)))
            hardest = min(hardest, a)
            v = max(v + 0.1 * a, 0.0)
            gap -= 0.1 * v
    assert 0 <= gap < 0.05
    assert -4.8 < hardest < -4.0
