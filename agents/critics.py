"""How a critic says what an action is worth: by a number, by probabilities, or by quantiles.

What a network says is (outputs, *batch); a target is made of what another one says of the step that
follows. Returns are scaled as rewards are.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
import optax

from gpusim.agents import losses


class Critic(Protocol):
    """What learners need of one."""

    @property
    def outputs(self) -> int:
        """Numbers that the network says of an action."""
        ...

    def expected(self, said: jax.Array) -> jax.Array:
        """(*batch) the expected return."""
        ...

    def target(
        self, later: jax.Array, reward: jax.Array, discount: jax.Array, more: jax.Array | float
    ) -> Any:
        """What is to be said now: reward + discount * (what follows + more), of `later`, said of
        what follows; nothing follows where discount is 0. (*batch) each but `later`."""
        ...

    def error(self, said: jax.Array, target: Any) -> jax.Array:
        """() what is to be made small."""
        ...


@dataclass(frozen=True)
class Scalar:
    """The expected return itself."""

    outputs: int = 1

    def expected(self, said: jax.Array) -> jax.Array:
        """(*batch)."""
        return said[0]

    def target(self, later: jax.Array, reward: jax.Array, discount: jax.Array, more: Any):
        """(*batch)."""
        return losses.td_target(reward, discount, later[0] + more)

    def error(self, said: jax.Array, target: jax.Array) -> jax.Array:
        """Half the mean squared error."""
        return losses.value_error(said[0], target)


@dataclass(frozen=True)
class Categorical:
    """Probabilities of returns that are evenly spaced from low to high (C51, arXiv:1707.06887);
    what is said are their logits."""

    outputs: int
    low: float
    high: float

    @property
    def returns(self) -> jax.Array:
        """(outputs,) those that have a probability."""
        return jnp.linspace(self.low, self.high, self.outputs)

    def expected(self, said: jax.Array) -> jax.Array:
        """(*batch)."""
        return jnp.tensordot(self.returns, jax.nn.softmax(said, 0), 1)

    def target(self, later: jax.Array, reward: jax.Array, discount: jax.Array, more: Any):
        """(outputs, *batch) probabilities: each return is moved, cut at the ends, and shared by its
        two neighbours, the nearer one getting more (algorithm 1)."""
        moved = self.returns.reshape(-1, *(1,) * reward.ndim) + more
        moved = losses.td_target(*jnp.broadcast_arrays(reward, discount, moved))
        moved = jnp.clip(moved, self.low, self.high)
        place = (moved - self.low) * ((self.outputs - 1) / (self.high - self.low))
        which = jnp.arange(self.outputs).reshape(-1, *(1,) * place.ndim)
        share = jnp.maximum(0, 1 - jnp.abs(place - which))  # (to, from, *batch)
        return (share * jax.nn.softmax(later, 0)).sum(1)

    def error(self, said: jax.Array, target: jax.Array) -> jax.Array:
        """Cross entropy, nats."""
        chex.assert_equal_shape([said, target])
        return -(target * jax.nn.log_softmax(said, 0)).sum(0).mean()


@dataclass(frozen=True)
class Quantile:
    """The quantiles of the return at (i + 1/2) / outputs (QR-DQN, arXiv:1710.10044)."""

    outputs: int

    def expected(self, said: jax.Array) -> jax.Array:
        """(*batch)."""
        return said.mean(0)

    def target(self, later: jax.Array, reward: jax.Array, discount: jax.Array, more: Any):
        """(outputs, *batch) returns, each as likely."""
        return losses.td_target(*jnp.broadcast_arrays(reward, discount, later + more))

    def error(self, said: jax.Array, target: jax.Array) -> jax.Array:
        """Huber's loss of every quantile to every target, weighed by how likely it is to be above
        or below (eq. 10): summed over quantiles, the mean over targets."""
        chex.assert_equal_shape([said, target])
        level = (jnp.arange(self.outputs) + 0.5) / self.outputs
        level = level.reshape(-1, *(1,) * said.ndim)
        gap = target[None] - said[:, None]  # (quantiles, targets, *batch)
        weight = jnp.abs(level - (gap < 0))
        return (weight * optax.losses.huber_loss(gap)).sum(0).mean()
