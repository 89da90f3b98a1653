"""Noise, and fail-safes: what a wanted acceleration becomes before the car moves.

The first four fail-safes are Flow's (`flow/controllers/base_controller.py`). `collision_free`
stands for what SUMO does to every car of Flow's worlds unless told not to. A speed to aim at is
returned as the acceleration that leads there within the step.
"""

import jax
import jax.numpy as jnp

from gpusim.envs.traffic.following import Sight


def noisy(a: jax.Array, key: jax.Array, std: float, dt: float) -> jax.Array:
    """a with Gaussian noise of standard deviation std sqrt(dt): the speed's random walk has the
    same spread after a second whatever the step."""
    return a + std * dt**0.5 * jax.random.normal(key, jnp.shape(a))


def instantaneous(a: jax.Array, see: Sight) -> jax.Array:
    """Stop at once, if the next step could lead into the car ahead standing still."""
    v = see.v + a * see.dt
    near = see.gap < see.dt * v + see.v * 1e-3 + 0.5 * see.v * see.dt
    return jnp.where((v > 0) & near, -see.v / see.dt, a)


def safe_velocity(a: jax.Array, see: Sight, delay: float = 0.0) -> jax.Array:
    """At most 2 gap / dt + (v_lead - v) - 2 v delay, Flow's bound on the speed; delay in s."""
    bound = 2 * see.gap / see.dt + (see.v_lead - see.v) - 2 * see.v * delay
    return slower(a, see, jnp.maximum(bound, 0.0))


def collision_free(a: jax.Array, see: Sight, b: float = 4.5) -> jax.Array:
    """At most the speed from which one comes to a stop behind a car that brakes at b, with a
    reaction time of one step (Krauss 1998): -b dt + sqrt((b dt)^2 + v_lead^2 + 2 b gap); and at
    most gap / dt, which keeps cars apart however hard the one ahead brakes.

    SUMO's bound is a discrete form of the same, with its `tau` for the reaction time.
    """
    gap = jnp.maximum(see.gap, 0.0)
    bound = -b * see.dt + jnp.sqrt((b * see.dt) ** 2 + see.v_lead**2 + 2 * b * gap)
    return slower(a, see, jnp.minimum(bound, gap / see.dt))


def feasible(a: jax.Array, max_accel: float = 2.6, max_decel: float = 4.5) -> jax.Array:
    """Within what the car can do; the numbers are SUMO's."""
    return jnp.clip(a, -max_decel, max_accel)


def slower(a: jax.Array, see: Sight, limit: float | jax.Array) -> jax.Array:
    """At most the speed `limit` after this step: Flow's "obey_speed_limit", for one."""
    return jnp.minimum(a, (limit - see.v) / see.dt)


FAIL_SAFES = {
    "none": lambda a, see: a,
    "instantaneous": instantaneous,
    "safe_velocity": safe_velocity,
    "collision_free": collision_free,
}
