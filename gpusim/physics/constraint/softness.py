"""MuJoCo's solref and solimp: how hard a constraint pushes back, and how soon.

After mj_makeImpedance; "Solver parameters" in MuJoCo's documentation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.physics.linalg import Array, pick

_MIN_IMPEDANCE, _MAX_IMPEDANCE, MIN_VALUE = 1e-4, 0.9999, 1e-15
_DEFAULT_REF = (0.02, 1.0)


class Softness(NamedTuple):
    """Constants of n constraints: aref = -damping v - spring · impedance(pos) · pos."""

    spring: Array  # (n,) 1/s²
    damping: Array  # (n,) 1/s
    shape: Array  # (n, 6) of the impedance: start, rise, 1/width, middle, and two scales
    power: Array  # () the power of all, or (n,)

    def take(self, index: Array) -> "Softness":
        """Those of some of the constraints."""
        return Softness(*(pick(x, index) if np.ndim(x) else x for x in self))

    def impedance(self, pos: jax.Array) -> jax.Array:
        """Between start and start + rise, along a polynomial from pos = 0 to |pos| = width."""
        start, rise, per_width, middle, below, beyond = (self.shape[:, k] for k in range(6))
        if isinstance(rise, np.ndarray) and not rise.any():
            return jnp.broadcast_to(start, pos.shape)
        x = jnp.minimum(jnp.abs(pos) * per_width, 1)
        near, far = below * self._raised(x), 1 - beyond * self._raised(1 - x)
        return start + jnp.where(x <= middle, near, far) * rise

    def _raised(self, x: jax.Array) -> jax.Array:
        if np.ndim(self.power) == 0 and self.power == 2:
            return x * x
        return jnp.power(x, self.power)


def stiffness(impedance: jax.Array, weight: Array) -> jax.Array:
    """D = 1/R with R = weight (1 - imp) / imp."""
    return impedance / jnp.maximum((1 - impedance) * weight, MIN_VALUE)


def softness(solref: Array, solimp: Array, timestep: float, refsafe: bool, dtype) -> Softness:
    """From rows of solref (n, 2) and solimp (n, 5), known at load."""
    solref, solimp = np.asarray(solref, float), np.asarray(solimp, float)
    spring, damping = reference(solref, solimp, timestep, refsafe)
    clip = lambda x: np.clip(x, _MIN_IMPEDANCE, _MAX_IMPEDANCE)
    start, end, middle = clip(solimp[:, 0]), clip(solimp[:, 1]), clip(solimp[:, 3])
    width, power = solimp[:, 2], np.maximum(solimp[:, 4], 1.0)
    flat = width <= MIN_VALUE
    shape = [
        np.where(flat, 0.5 * (start + end), start),
        np.where(flat, 0.0, end - start),
        1 / np.where(flat, 1.0, width),
        middle,
        1 / middle ** (power - 1),
        1 / (1 - middle) ** (power - 1),
    ]
    cast = lambda x: np.asarray(x, dtype)
    same = len(power) and (power == power[0]).all()
    power = power[0] if same else power
    return Softness(cast(spring), cast(damping), cast(np.stack(shape, 1)), cast(power))


def reference(
    solref: np.ndarray, solimp: np.ndarray, timestep: float, refsafe: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Spring and damping (n,) from time constant and damping ratio, or from their negatives."""
    mixed = (solref[:, 0] > 0) != (solref[:, 1] > 0)
    solref = np.where(mixed[:, None], _DEFAULT_REF, solref)
    first, second = solref.T
    end = np.clip(solimp[:, 1], _MIN_IMPEDANCE, _MAX_IMPEDANCE)
    direct = first <= 0
    time = np.where(direct, 1.0, np.maximum(first, 2 * timestep if refsafe else 0.0))
    ratio = np.where(direct, 1.0, second)
    spring = np.where(direct, -first / end**2, 1 / np.maximum((end * time * ratio) ** 2, MIN_VALUE))
    damping = np.where(direct, -second / end, 2 / np.maximum(end * time, MIN_VALUE))
    return spring, damping
