"""Muscles after Hill, as MuJoCo has them: mju_muscleGain, mju_muscleBias, mju_muscleDynamics.

All functions are of n muscles; prm are rows of gainprm or biasprm, (n, 10): range (2), force,
scale, lmin, lmax, vmax, fpmax, fvmax.
"""

import jax
import jax.numpy as jnp

from gpusim.physics.linalg import Array

_LEAST = 1e-15


def _scaled(prm: Array, length: Array, lengthrange: Array, acc0: Array):
    """Peak force, length of one optimal length, and length in that unit."""
    force = jnp.where(prm[:, 2] < 0, prm[:, 3] / jnp.maximum(acc0, _LEAST), prm[:, 2])
    optimum = (lengthrange[:, 1] - lengthrange[:, 0]) / jnp.maximum(prm[:, 1] - prm[:, 0], _LEAST)
    return force, optimum, prm[:, 0] + (length - lengthrange[:, 0]) / jnp.maximum(optimum, _LEAST)


def gain(prm: Array, length: Array, velocity: Array, lengthrange: Array, acc0: Array) -> jax.Array:
    """Force of full activation (n,), negative: muscles pull."""
    force, optimum, scaled = _scaled(prm, length, lengthrange, acc0)
    speed = velocity / jnp.maximum(optimum * prm[:, 6], _LEAST)
    return -force * _by_length(prm, scaled) * _by_speed(prm, speed)


def gain_slope(
    prm: Array, length: Array, velocity: Array, lengthrange: Array, acc0: Array
) -> jax.Array:
    """d gain / d velocity (n,)."""
    force, optimum, scaled = _scaled(prm, length, lengthrange, acc0)
    unit = jnp.maximum(optimum * prm[:, 6], _LEAST)
    speed, y = velocity / unit, prm[:, 8] - 1
    rising = jnp.where(speed <= y, 2 * (y - speed) / jnp.maximum(y, _LEAST), 0)
    slope = jnp.where(speed <= -1, 0, jnp.where(speed <= 0, 2 * speed + 2, rising))
    return -force * _by_length(prm, scaled) * slope / unit


def _by_length(prm: Array, x: Array) -> jax.Array:
    low, high = prm[:, 4], prm[:, 5]
    a, b = 0.5 * (low + 1), 0.5 * (1 + high)
    part = lambda up, width: up / jnp.maximum(width, _LEAST)
    first, second = part(x - low, a - low), part(1 - x, 1 - a)
    third, fourth = part(x - 1, b - 1), part(high - x, high - b)
    curve = jnp.where(
        x <= a,
        0.5 * first * first,
        jnp.where(
            x <= 1,
            1 - 0.5 * second * second,
            jnp.where(x <= b, 1 - 0.5 * third * third, 0.5 * fourth * fourth),
        ),
    )
    return jnp.where((x >= low) & (x <= high), curve, 0)


def _by_speed(prm: Array, v: Array) -> jax.Array:
    most = prm[:, 8]
    y = most - 1
    rising = jnp.where(v <= y, most - (y - v) * (y - v) / jnp.maximum(y, _LEAST), most)
    return jnp.where(v <= -1, 0, jnp.where(v <= 0, (v + 1) * (v + 1), rising))


def bias(prm: Array, length: Array, lengthrange: Array, acc0: Array) -> jax.Array:
    """Passive force (n,), negative."""
    force, _, scaled = _scaled(prm, length, lengthrange, acc0)
    b = 0.5 * (1 + prm[:, 5])
    unit = jnp.maximum(b - 1, _LEAST)
    near, far = (scaled - 1) / unit, (scaled - b) / unit
    curve = jnp.where(scaled <= b, 0.5 * near * near, 0.5 + far)
    return jnp.where(scaled <= 1, 0, -force * prm[:, 7] * curve)


def activation_rate(prm: Array, ctrl: Array, act: Array) -> jax.Array:
    """d act / dt (n,); prm: rows of dynprm, time constants of activation and deactivation, and the
    width over which one becomes the other (Millard et al., 2013).
    """
    excess = jnp.clip(ctrl, 0, 1) - act
    shape = 0.5 + 1.5 * jnp.clip(act, 0, 1)
    up, down, width = prm[:, 0] * shape, prm[:, 1] / shape, prm[:, 2]
    x = jnp.clip(excess / jnp.where(width < _LEAST, 1, width) + 0.5, 0, 1)
    smooth = x * x * x * (3 * x * (2 * x - 5) + 10)
    hard = jnp.where(excess > 0, 1, 0)
    share = jnp.where(width < _LEAST, hard, smooth)
    return excess / jnp.maximum(down + (up - down) * share, _LEAST)
