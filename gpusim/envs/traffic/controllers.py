"""Controllers of the field experiments that removed stop-and-go waves with one car (Stern et al.
2018, arXiv:1705.01693), as in Flow's `velocity_controllers.py`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpusim.envs.traffic.following import Sight
from gpusim.envs.traffic.safety import safe_velocity

WINDOW = 38.0
"""Over which PI with saturation averages its own speed, s."""


def follower_stopper(see: Sight, desired: float | jax.Array = 15.0) -> jax.Array:
    """FollowerStopper: drive at the desired speed, and slower in a band of gaps that widens as one
    closes in.

    The bounds of the band are dx_k = dx0_k + min(v_lead - v, 0)^2 / (2 d_k). Like Flow's it has
    the fail-safe `safe_velocity` with a delay of 1 s, and its third piece rises with
    desired - v, where the paper has desired - min(v_lead, desired).
    """
    closing = jnp.minimum(see.v_lead - see.v, 0.0) ** 2
    dx_1, dx_2, dx_3 = (dx + closing / (2 * d) for dx, d in ((4.5, 1.5), (5.25, 1.0), (6.0, 0.5)))
    lead = jnp.clip(see.v_lead, 0.0, desired)
    command = jnp.select(
        [see.gap <= dx_1, see.gap <= dx_2, see.gap <= dx_3],
        [
            jnp.zeros_like(lead),
            lead * (see.gap - dx_1) / (dx_2 - dx_1),
            lead + (desired - see.v) * (see.gap - dx_2) / (dx_3 - dx_2),
        ],
        desired,
    )
    return safe_velocity((command - see.v) / see.dt, see, delay=1.0)


class PIMemory(NamedTuple):
    """What PI with saturation remembers."""

    speeds: jax.Array  # (window,) own speeds of the last steps, in no order
    count: jax.Array  # () int32: speeds seen so far
    command: jax.Array  # () the commanded speed


def pi_memory(dt: float) -> PIMemory:
    """Before the first step. Flow forgets the oldest speed when it has as many as 38 s hold, so
    that it averages one fewer."""
    window = int(WINDOW / dt) - 1
    return PIMemory(jnp.zeros(window), jnp.zeros((), jnp.int32), jnp.zeros(()))


def pi_saturation(
    memory: PIMemory, see: Sight, max_accel: float = 2.6
) -> tuple[PIMemory, jax.Array]:
    """PI with saturation, of one car: follow the mean of one's own speed, up to 1 m/s faster where
    the gap is wide (7 to 30 m), and the car ahead where it is small."""
    window = len(memory.speeds)
    speeds = memory.speeds.at[memory.count % window].set(see.v)
    count = memory.count + 1
    mean = speeds.sum() / jnp.minimum(count, window)
    target = mean + jnp.clip((see.gap - 7.0) / (30.0 - 7.0), 0.0, 1.0)
    near = jnp.maximum(2 * (see.v_lead - see.v), 4.0)
    alpha = jnp.clip((see.gap - near) / 2.0, 0.0, 1.0)
    beta = 1 - 0.5 * alpha
    command = beta * (alpha * target + (1 - alpha) * see.v_lead) + (1 - beta) * memory.command
    accel = jnp.minimum((command - see.v) / see.dt, max_accel)
    return PIMemory(speeds, count, command), accel
