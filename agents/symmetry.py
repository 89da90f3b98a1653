"""A world in a mirror (`World.mirrored`): twice as much to learn from what was played."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.agents import normalize
from gpusim.envs.world import Box, World


class Mirror(NamedTuple):
    """What becomes of observations and actions, samples last: numbers change places and signs."""

    obs: Any  # of each part: (features,) int, 1 + which it becomes, negative for the other sign
    action: np.ndarray  # (actions,) likewise

    @classmethod
    def of(cls, world: World) -> "Mirror":
        """Found by asking the world. Raises ValueError if it does not say, or says something else
        than an order and signs, by which numbers come back after two times."""
        if not isinstance(world.action_space, Box):
            raise ValueError(f"mirror: {world.name} has choices for actions, not numbers")
        like = jax.eval_shape(world.start, jax.random.key(0)).obs
        count = lambda x: np.arange(1.0, x.shape[-1] + 1)
        obs, action = jax.tree.map(count, like), np.arange(1.0, world.action_size + 1)
        try:
            with jax.ensure_compile_time_eval():
                once = world.mirrored(obs, action)
                found = jax.tree.map(lambda x: np.asarray(x).round().astype(int), once)
                twice = world.mirrored(*once)
        except NotImplementedError as error:
            raise ValueError(f"mirror: {error}") from None
        kept = jax.tree.map(lambda x, y: np.array_equal(x, y), (obs, action), twice)
        if not all(jax.tree.leaves(kept)):
            raise ValueError(
                f"mirror: {world.name}: mirrored does not give back what it is given when it is "
                "applied two times; it may change the order and the signs of numbers"
            )
        if all(jax.tree.leaves(jax.tree.map(np.array_equal, (obs, action), once))):
            raise ValueError(f"mirror: {world.name} is its own mirror image already")
        return cls(*found)

    def image(self, obs: Any, action: jax.Array) -> tuple[Any, jax.Array]:
        """Of observations (features, *samples) of each part and raw actions (actions, *samples)."""
        return jax.tree.map(_put, obs, self.obs), _put(action, self.action)

    def balanced(self, seen: normalize.Statistics) -> normalize.Statistics:
        """Statistics of what was seen and of its image, so that what is normalised has an image."""
        there = jax.tree.map(_put, seen.mean, self.obs)
        mean = jax.tree.map(lambda a, b: (a + b) / 2, seen.mean, there)
        variance = jax.tree.map(
            lambda v, k, a, b: (v + v[np.abs(k) - 1]) / 2 + jnp.square((a - b) / 2),
            *(seen.variance, self.obs, seen.mean, there),
        )
        return seen._replace(mean=mean, variance=variance)


def _put(x: jax.Array, which: np.ndarray) -> jax.Array:
    """x (n, ...) in another order, some negated."""
    sign = jnp.asarray(np.sign(which), x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    return x[np.abs(which) - 1] * sign
