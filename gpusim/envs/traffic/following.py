"""Car following: the acceleration of a driver from what he sees, as functions of arrays.

The parameters and their defaults are Flow's (`flow/controllers/car_following_models.py`), with the
papers that Flow took them from. A gap is from bumper to bumper, m; speeds are m/s, accelerations
m/s^2. Any shape will do: the functions are elementwise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

LENGTH = 5.0
"""Of every car, m."""
TOUCH = 0.01
"""Cars that overlap by more than this have crashed, m: less may be rounding."""
FAR = 1e6
"""The gap of who has nobody ahead, m: no driver minds."""


Numbers: TypeAlias = Any  # arrays of one shape, or numbers


class Sight(NamedTuple):
    """What a driver sees; arrays of one shape, or numbers."""

    v: Numbers  # own speed
    v_lead: Numbers  # speed of the car ahead
    gap: Numbers  # to the car ahead, m
    v_behind: Numbers = 0.0  # speed of the car behind
    gap_behind: Numbers = 0.0  # from the car behind, m
    a: Numbers = 0.0  # own acceleration of the step before
    dt: float = 0.1  # how long the acceleration will act, s


def wall(see: Sight, distance: jax.Array, when: jax.Array | bool) -> Sight:
    """A second sight: where `when`, something that stands so far ahead, m, which need not be nearer
    than the car ahead; elsewhere, and where the distance is negative, nothing."""
    gap = jnp.where(when & (distance >= 0), distance, FAR)
    return see._replace(gap=gap, v_lead=jnp.zeros_like(see.v))


def idm(
    see: Sight,
    *,
    v0: Numbers = 30.0,
    T: float = 1.0,
    a: float = 1.0,
    b: float = 1.5,
    delta: float = 4.0,
    s0: float = 2.0,
) -> jax.Array:
    """Intelligent driver model: a (1 - (v/v0)^delta - (s*/gap)^2), with
    s* = s0 + max(0, v T + v (v - v_lead) / (2 sqrt(a b))). Treiber et al. 2000.

    v0: desired speed; T: time headway, s; a, b: comfortable acceleration and deceleration; s0: gap
    when standing, m. A gap under 1 mm counts as 1 mm.
    """
    wanted = s0 + jnp.maximum(0.0, see.v * T + see.v * (see.v - see.v_lead) / (2 * (a * b) ** 0.5))
    gap = jnp.where(jnp.abs(see.gap) < 1e-3, 1e-3, see.gap)
    return a * (1 - (see.v / v0) ** delta - (wanted / gap) ** 2)


def ovm(
    see: Sight,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    h_st: float = 2.0,
    h_go: float = 15.0,
    v_max: float = 30.0,
) -> jax.Array:
    """Optimal velocity model with a term for the speed difference: alpha (V(gap) - v) +
    beta (v_lead - v), where V rises as a cosine from 0 at h_st to v_max at h_go. Bando et al. 1995.
    """
    part = jnp.clip((see.gap - h_st) / (h_go - h_st), 0.0, 1.0)
    optimal = v_max / 2 * (1 - jnp.cos(jnp.pi * part))
    return alpha * (optimal - see.v) + beta * (see.v_lead - see.v)


def linear_ovm(
    see: Sight, *, v_max: float = 30.0, adaptation: float = 0.65, h_st: float = 5.0
) -> jax.Array:
    """Optimal velocity model with V linear in the gap, at 1.689 /s from h_st on (Nakayama et al.
    2009): (V(gap) - v) / adaptation, the latter in s."""
    optimal = jnp.clip(1.689 * (see.gap - h_st), 0.0, v_max)
    return (optimal - see.v) / adaptation


def cfm(
    see: Sight,
    *,
    k_d: float = 1.0,
    k_v: float = 1.0,
    k_c: float = 1.0,
    d_des: float = 1.0,
    v_des: float = 8.0,
) -> jax.Array:
    """Linear car following: k_d (gap - d_des) + k_v (v_lead - v) + k_c (v_des - v)."""
    return k_d * (see.gap - d_des) + k_v * (see.v_lead - see.v) + k_c * (v_des - see.v)


def bcm(
    see: Sight, *, k_d: float = 1.0, k_v: float = 1.0, k_c: float = 1.0, v_des: float = 8.0
) -> jax.Array:
    """Bilateral car following, which looks ahead and behind (Horn 2013): k_d (gap - gap_behind) +
    k_v ((v_lead - v) - (v - v_behind)) + k_c (v_des - v)."""
    closing = (see.v_lead - see.v) - (see.v - see.v_behind)
    return k_d * (see.gap - see.gap_behind) + k_v * closing + k_c * (v_des - see.v)


def lac(
    see: Sight, *, k_1: float = 0.3, k_2: float = 0.4, h: float = 1.0, tau: float = 0.1
) -> jax.Array:
    """Linear adaptive cruise control behind a lag: a' = (u - a) / tau, with
    u = k_1 (gap - LENGTH - h v) + k_2 (v_lead - v). Rajamani 2012.

    Flow takes the car's length off the gap, although its gap is from bumper to bumper already; so
    do we. The lag is one explicit Euler step, which needs dt <= tau.
    """
    u = k_1 * (see.gap - LENGTH - h * see.v) + k_2 * (see.v_lead - see.v)
    return see.a + see.dt * (u - see.a) / tau


def gipps(
    see: Sight,
    *,
    v0: float = 30.0,
    acc: float = 1.5,
    b: float = -1.0,
    b_l: float = -1.0,
    s0: float = 2.0,
    tau: float = 1.0,
) -> jax.Array:
    """Gipps' model (1981): the next speed is the least of what one may speed up to, of what is safe
    if the car ahead brakes at b_l while one brakes at b after tau seconds, and of v0.

    Where not even standing is safe, the root that is not real counts as 0 (in Flow it is NaN).
    """
    free = see.v + 2.5 * acc * tau * (1 - see.v / v0) * jnp.sqrt(0.025 + see.v / v0)
    room = 2 * (see.gap - s0) - tau * see.v - see.v_lead**2 / b_l
    safe = tau * b + jnp.sqrt(jnp.maximum(tau**2 * b**2 - b * room, 0.0))
    return (jnp.minimum(jnp.minimum(free, safe), v0) - see.v) / see.dt


def bando_ftl(
    see: Sight,
    *,
    alpha: float = 0.5,
    beta: float = 20.0,
    h_st: float = 2.0,
    v_max: float = 32.0,
) -> jax.Array:
    """Bando's optimal velocity with a follow-the-leader term: alpha (V(gap) - v) +
    beta (v_lead - v) / gap^2, V = v_max (tanh(gap / h_st - 2) + tanh 2) / (1 + tanh 2)."""
    bend = jnp.tanh(jnp.asarray(2.0))
    optimal = v_max * (jnp.tanh(see.gap / h_st - 2) + bend) / (1 + bend)
    return alpha * (optimal - see.v) + beta * (see.v_lead - see.v) / see.gap**2


MODELS: dict[str, Callable[[Sight], jax.Array]] = {
    "idm": idm,
    "ovm": ovm,
    "linear_ovm": linear_ovm,
    "cfm": cfm,
    "bcm": bcm,
    "lac": lac,
    "gipps": gipps,
    "bando_ftl": bando_ftl,
}


def equilibrium_speed(gap: jax.Array) -> jax.Array:
    """The speed at which `idm` keeps this gap behind a car of the same speed: the root of
    gap = (s0 + v T) / sqrt(1 - (v/v0)^4) with its default numbers, by bisection; 0 for gaps
    under s0."""

    def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        faster = idm(Sight(middle, middle, gap)) > 0
        return jnp.where(faster, middle, low), jnp.where(faster, high, middle)

    zero = jnp.zeros_like(gap)
    return jax.lax.fori_loop(0, 40, halve, (zero, zero + 30.0))[0]
