"""What can be chosen about PPO, checked once."""

from dataclasses import dataclass
from math import gcd
from typing import Literal


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation (arXiv:1707.06347)."""

    total_steps: int = 30_000_000
    """Environment steps of the whole run, all worlds together; what annealing counts down to."""
    num_envs: int = 4096
    """Worlds simulated at once, all devices together."""
    unroll_length: int = 16
    """Control steps each world makes between two updates."""
    num_minibatches: int = 8
    """Gradient steps per epoch; each sees every world (or group of worlds) at different times."""
    num_epochs: int = 4
    """Passes over each batch of experience."""
    updates_per_call: int = 4
    """Updates made by one call of the compiled program: more means less talk with the host."""
    learning_rate: float = 5e-4
    """Adam's step size (at the start, if annealed)."""
    anneal: bool = True
    """Let the learning rate fall linearly to zero over total_steps."""
    discount: float = 0.98
    """What a reward one control step later is worth."""
    gae_lambda: float = 0.95
    """Trade of bias (0) against variance (1) in advantages."""
    clip: float = 0.3
    """How far the probability ratio may move from 1 before its gradient is cut."""
    entropy_cost: float = 0.0
    """Weight of the policy's entropy (nats) as a bonus in the loss."""
    value_cost: float = 0.5
    """Weight of the value loss, itself half the mean squared error."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    training_episode_length: int | None = None
    """Cut training episodes after so many control steps; None: the whole time limit. Shorter ones
    show the learner more starts. No penalty: the value there stands for what would have followed,
    and evaluations are whole episodes."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this before learning; reported returns are not."""
    normalize_observations: bool = True
    """Shift and scale observations to zero mean and unit variance as seen so far."""
    policy_hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers."""
    value_hidden: tuple[int, ...] = (64, 64)
    """Widths of the value network's hidden layers."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"
    """Activation of hidden layers; on a CPU tanh and relu are several times cheaper."""
    distribution: Literal["clip", "tanh"] = "clip"
    """How Gaussian samples are brought into [-1, 1]: clipped, or squashed by tanh."""
    initial_std: float = 0.6
    """Standard deviation of the first policy's raw actions."""

    @property
    def steps_per_update(self) -> int:
        """Environment steps, all worlds together, between two updates."""
        return self.num_envs * self.unroll_length

    @property
    def steps_per_call(self) -> int:
        """Environment steps, all worlds together, of one call of train_step."""
        return self.steps_per_update * self.updates_per_call

    @property
    def num_updates(self) -> int:
        """Updates in the whole run, rounded up."""
        return -(-self.total_steps // self.steps_per_update)

    def fits(self, num_devices: int) -> bool:
        """Can, and should, this be shared by so many cores? Each then has 128 worlds at least."""
        try:
            self.check(num_devices)
        except ValueError:
            return False
        return self.num_envs >= 128 * num_devices

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        for name in ("num_envs", "unroll_length", "num_minibatches", "num_epochs"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, needs at least 1")
        _require(self.updates_per_call >= 1, "updates_per_call needs to be at least 1")
        _require(self.total_steps >= 1, "total_steps needs to be at least 1")
        length = self.training_episode_length
        _require(
            length is None or length >= 1,
            f"training_episode_length is {length}, needs to be at least 1",
        )
        _require(0 <= self.discount <= 1, f"discount is {self.discount}, needs to be in [0, 1]")
        _require(0 <= self.gae_lambda <= 1, f"gae_lambda is {self.gae_lambda}, needs [0, 1]")
        _require(
            self.num_envs % num_devices == 0,
            f"num_envs={self.num_envs} cannot be shared by {num_devices} devices; try "
            f"{_near(self.num_envs, lambda n: n % num_devices == 0)}",
        )
        samples = self.num_envs // num_devices * self.unroll_length
        group = self.num_minibatches // gcd(self.num_minibatches, self.unroll_length)
        _require(
            samples % self.num_minibatches == 0,
            f"num_envs={self.num_envs} x unroll_length={self.unroll_length} on {num_devices} "
            f"device(s) gives {samples} samples each, not divisible by "
            f"num_minibatches={self.num_minibatches}; try num_minibatches="
            f"{_near(self.num_minibatches, lambda m: samples % m == 0)}, or "
            f"num_envs={_near(self.num_envs, lambda n: n % (num_devices * group) == 0)}",
        )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(f"PPOConfig: {message}")


def _near(value: int, works) -> str:
    """The nearest numbers that work below and above `value`, in words."""
    below = next((n for n in range(value, 0, -1) if works(n)), None)
    above = next((n for n in range(value, 2 * value + 1000) if works(n)), None)
    return " or ".join(str(n) for n in (below, above) if n is not None)
