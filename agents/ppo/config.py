"""What can be chosen about PPO."""

from dataclasses import dataclass
from math import gcd, inf
from typing import ClassVar

from gpusim.agents.config import ActorCriticConfig, near


@dataclass(frozen=True)
class PPOConfig(ActorCriticConfig):
    """Proximal policy optimisation (arXiv:1707.06347)."""

    FIXED: ClassVar[tuple[str, ...]] = (*ActorCriticConfig.FIXED, "desired_kl")

    num_minibatches: int = 8
    """Gradient steps per epoch; each sees every world (or group of worlds) at different times."""
    num_epochs: int = 4
    """Passes over each batch of experience."""
    gae_lambda: float = 0.95
    """Trade of bias (0) against variance (1) in advantages."""
    clip: float = 0.3
    """How far the probability ratio may move from 1 before its gradient is cut."""
    value_clip: float | None = None
    """How far, in scaled rewards, values may move in an update before their gradient is cut; None:
    as far as they do."""
    minibatch_advantages: bool = False
    """Bring advantages to zero mean and unit variance in every minibatch, not once a batch."""
    desired_kl: float | None = None
    """After every update make the steps longer by half if the policy moved less than half as far
    (nats), shorter if more than twice as far; None: leave it to learning_rate and anneal."""
    max_kl: float | None = None
    """Make no more gradient steps of an update once the policy has moved so far (nats)."""
    mirror: bool = False
    """Learn from the mirror image of every sample too, where a world has one (`World.mirrored`: of
    our robots those whose left is their right)."""

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of an update."""
        return self.num_epochs * self.num_minibatches

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        for name in ("num_minibatches", "num_epochs"):
            self.require(getattr(self, name) >= 1, name, "at least 1")
        self.require(0 <= self.gae_lambda <= 1, "gae_lambda", "in [0, 1]")
        self.require(self.clip > 0, "clip", "positive")
        for name in ("value_clip", "desired_kl", "max_kl"):
            value = getattr(self, name)
            self.require(value is None or 0 < value < inf, name, "positive and finite, or None")
        alone = not (self.mirror and (self.memory or self.policies or self.central_critic))
        self.require(alone, "mirror", "off with memory, policies or central_critic")
        mine = self.num_envs // num_devices
        if self.memory and mine % self.num_minibatches:
            worlds = near(self.num_envs, lambda n: n % (num_devices * self.num_minibatches) == 0)
            raise ValueError(
                f"PPOConfig: with memory={self.memory} minibatches are of whole worlds, and "
                f"num_envs={self.num_envs} on {num_devices} device(s) cannot be shared by "
                f"num_minibatches={self.num_minibatches}; try num_envs={worlds}"
            )
        samples = mine * self.unroll_length
        group = self.num_minibatches // gcd(self.num_minibatches, self.unroll_length)
        if samples % self.num_minibatches:
            minibatches = near(self.num_minibatches, lambda m: samples % m == 0)
            worlds = near(self.num_envs, lambda n: n % (num_devices * group) == 0)
            raise ValueError(
                f"PPOConfig: num_envs={self.num_envs} x unroll_length={self.unroll_length} on "
                f"{num_devices} device(s) gives {samples} samples each, not divisible by "
                f"num_minibatches={self.num_minibatches}; try num_minibatches={minibatches}, or "
                f"num_envs={worlds}"
            )
