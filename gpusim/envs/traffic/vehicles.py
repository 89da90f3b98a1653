"""Every vehicle of a world of traffic as a row: what Flow calls its emission."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Vehicles(NamedTuple):
    """All vehicles that can be there, (n,) each; where `here` is not, the rest means nothing."""

    here: jax.Array  # bool: is it on a road?
    id: jax.Array  # a whole number; in worlds that vehicles leave, one that is gone leaves its own
    road: jax.Array  # which road, from 0 on; 0 is the one that a diagram shows
    lane: jax.Array  # which lane of it
    position: jax.Array  # of the front bumper, m from the beginning of the road
    speed: jax.Array  # m/s
    controlled: jax.Array  # bool: can the policy drive it?

    @classmethod
    def of(
        cls, here: Any, id: Any, position: jax.Array, speed: jax.Array, **more: Any
    ) -> "Vehicles":
        """Vehicles of arrays of the shape of position, or broadcast to it; what is not said is
        0."""
        zero, no = jnp.zeros(position.shape), jnp.zeros(position.shape, bool)
        said = {"road": zero, "lane": zero, "controlled": no} | more
        made = cls(here=here, id=id, position=position, speed=speed, **said)
        return cls(*(jnp.broadcast_to(x, position.shape).ravel() for x in made))

    @classmethod
    def together(cls, *parts: "Vehicles") -> "Vehicles":
        """All of them."""
        return cls(*(jnp.concatenate(x) for x in zip(*parts, strict=True)))
