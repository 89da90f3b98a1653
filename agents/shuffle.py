"""Which samples are learned from together."""

from math import gcd

import jax
import jax.numpy as jnp

from gpusim import sharding


def shuffle(
    key: jax.Array, *, length: int, num_envs: int, num_minibatches: int, num_epochs: int
) -> tuple[jax.Array, jax.Array]:
    """Minibatches made of slots: (slots, samples of each) and (gradient steps, slots of each).

    Samples are numbered t * num_envs + world. A full random permutation is a sort, and on a CPU
    costs as much as learning from the result. So each world's times are rotated by a random amount
    of its own: a slot holds one sample of every world, at times that are independent between
    worlds. Epochs then only choose anew which slots make a minibatch, and copy whole rows. If
    num_minibatches does not divide length, a slot has one sample of every small group of worlds.
    """
    group = num_minibatches // gcd(length, num_minibatches)  # worlds; 1 if it divides length
    slots, groups = length * group, num_envs // group
    rotation_key, order_key = jax.random.split(key)
    rotation = jax.vmap(jax.random.bits)(sharding.split(rotation_key, groups)) % slots
    moment = (jnp.arange(slots)[:, None] + rotation.astype(jnp.int32)) % slots  # (slots, groups)
    time, member = moment % length, moment // length
    samples = time * num_envs + jnp.arange(groups) * group + member
    order = jnp.argsort(jax.random.bits(order_key, (num_epochs, slots)))
    return samples, order.reshape(num_epochs * num_minibatches, -1)


def shuffle_worlds(
    key: jax.Array, *, num_envs: int, num_minibatches: int, num_epochs: int
) -> jax.Array:
    """Minibatches of whole worlds, whose steps stay in order: (gradient steps, worlds of each).

    A minibatch has one world of every `num_minibatches` neighbours; which one is drawn anew for
    every epoch.
    """
    groups = num_envs // num_minibatches
    draw = lambda key: jax.random.bits(key, (num_epochs,))
    rotation = jax.vmap(draw, out_axes=1)(sharding.split(key, groups)) % num_minibatches
    turn = jnp.arange(num_minibatches)[:, None] + rotation.astype(jnp.int32)[:, None, :]
    worlds = jnp.arange(groups) * num_minibatches + turn % num_minibatches
    return worlds.reshape(num_epochs * num_minibatches, groups)
