"""What can be chosen about a learner, checked once. Nothing here starts JAX."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class LearnerConfig:
    """What every learner's configuration has, and the loop of a run reads."""

    FIXED: ClassVar[tuple[str, ...]] = ("num_envs", "unroll_length")
    """What a run keeps from its beginning to its end: the shapes of its state, how it counts."""

    total_steps: int = 30_000_000
    """Environment steps of the whole run, all worlds together; what annealing counts down to."""
    num_envs: int = 4096
    """Worlds simulated at once, all devices together."""
    unroll_length: int = 16
    """Control steps each world makes between two updates."""
    updates_per_call: int = 4
    """Updates made by one call of the compiled program: more means less talk with the host."""
    training_episode_length: int | None = None
    """Cut training episodes after so many control steps; None: the whole time limit. Shorter ones
    show the learner more starts. No penalty: the value there stands for what would have followed,
    and evaluations are whole episodes."""

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

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of an update."""
        return 1

    def fits(self, num_devices: int) -> bool:
        """Can, and should, this be shared by so many cores? Each then has 128 worlds at least."""
        try:
            self.check(num_devices)
        except ValueError:
            return False
        return self.num_envs >= 128 * num_devices

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        for name in ("num_envs", "unroll_length", "updates_per_call", "total_steps"):
            self.require(getattr(self, name) >= 1, name, "at least 1")
        length = self.training_episode_length
        self.require(length is None or length >= 1, "training_episode_length", "at least 1")
        for name, value in vars(self).items():
            said = value if isinstance(value, tuple) else (value,)
            fits = name == "total_steps" or all(map(fits_32_bits, said))  # updates are counted
            self.require(fits, name, "a number of 32 bits")
        each = self.gradient_steps if getattr(self, "anneal", False) else 1
        self.require(
            self.num_updates * each < 2**31,
            "total_steps",
            f"less: {self.num_updates} updates of {self.gradient_steps} gradient steps are more "
            "than 32 bits count",
        )
        if self.num_envs % num_devices:
            raise ValueError(
                f"{type(self).__name__}: num_envs={self.num_envs} cannot be shared by "
                f"{num_devices} devices; try "
                f"{near(self.num_envs, lambda n: n % num_devices == 0)}"
            )

    def require(self, condition: bool, name: str, needs: str) -> None:
        """Raise ValueError, saying what the field `name` needs to be, unless `condition`."""
        if not condition:
            value = getattr(self, name)
            raise ValueError(f"{type(self).__name__}: {name} is {value}, needs to be {needs}")


CONVOLUTIONS = ("conv_filters", "conv_kernels", "conv_strides")
"""The settings of what sees pictures."""


@dataclass(frozen=True)
class ActorCriticConfig(LearnerConfig):
    """Learners of a Gaussian policy together with a value network."""

    FIXED: ClassVar[tuple[str, ...]] = (
        *LearnerConfig.FIXED,
        *("policy_hidden", "value_hidden", "activation", "distribution", "state_std"),
        *CONVOLUTIONS,
        *("memory", "normalize_observations", "normalize_rewards", "anneal"),
        *("policies", "central_critic", "opponents"),
    )

    learning_rate: float = 5e-4
    """Adam's step size (at the start, if annealed)."""
    anneal: bool = True
    """Let the learning rate fall linearly to zero over total_steps."""
    discount: float = 0.98
    """What a reward one control step later is worth."""
    entropy_cost: float = 0.0
    """Weight of the policy's entropy (nats) as a bonus in the loss."""
    anneal_entropy: bool = False
    """Let entropy_cost fall linearly to zero over total_steps."""
    value_cost: float = 0.5
    """Weight of the value loss, itself half the mean squared error."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this before learning; reported returns are not."""
    normalize_rewards: bool = False
    """Divide rewards by the standard deviation of the discounted returns seen so far, too."""
    normalize_observations: bool = True
    """Shift and scale observations to zero mean and unit variance as seen so far; pictures stay as
    they are."""
    policy_hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy's hidden layers."""
    value_hidden: tuple[int, ...] = (64, 64)
    """Widths of the value network's hidden layers."""
    conv_filters: tuple[int, ...] = (16, 32)
    """Of worlds seen in pictures: filters of each convolution before the hidden layers, which
    policy and value network share."""
    conv_kernels: tuple[int, ...] = (8, 4)
    """Height and width of each convolution's filters, pixels of what it sees; one of k pixels that
    looks every s is computed, and compiled, as (k / s)² products of matrices."""
    conv_strides: tuple[int, ...] = (4, 2)
    """How far apart each convolution looks; kernels as large look at every pixel once, which is
    several times cheaper."""
    memory: int = 0
    """Numbers that the policy, and likewise the value network, remembers from step to step of an
    episode (a gated recurrent unit before the hidden layers); 0: it sees the present alone."""
    policies: tuple[int, ...] = ()
    """Where several agents act in a world, which policy each follows: `0 0 1` are two that share
    one, and one with its own; each policy has a value network of its own. None said: all share."""
    central_critic: bool = False
    """Let the value network see what all agents of its world see."""
    opponents: int = 0
    """Self-play: the first agent of a world learns, the others follow so many earlier selves of its
    policy, each in its share of the worlds; 0: all agents learn."""
    opponent_updates: int = 50
    """After so many updates the policy as it is takes the place of the oldest of the opponents."""
    activation: Literal["tanh", "relu", "silu", "elu"] = "tanh"
    """Activation of hidden layers; on a CPU tanh and relu are several times cheaper."""
    distribution: Literal["clip", "tanh"] = "clip"
    """How Gaussian samples are brought into [-1, 1]: clipped, or squashed by tanh."""
    initial_std: float = 0.6
    """Standard deviation of the first policy's raw actions."""
    state_std: bool = False
    """Let the policy network say the standard deviation too, by what it sees (between 0.0067 and
    7.4), instead of learning one number for each action."""

    def check(self, num_devices: int) -> None:
        """Raise ValueError, with numbers that would work, if this cannot run on so many devices."""
        super().check(num_devices)
        self.require(0 <= self.discount <= 1, "discount", "in [0, 1]")
        for name in ("learning_rate", "max_grad_norm", "initial_std"):
            self.require(0 < getattr(self, name) < math.inf, name, "positive and finite")
        for name in ("entropy_cost", "value_cost"):
            self.require(0 <= getattr(self, name) < math.inf, name, "at least 0, and finite")
        self.require(math.isfinite(self.reward_scale), "reward_scale", "finite")
        self.require(self.memory >= 0, "memory", "at least 0")
        kinds = set(self.policies)
        self.require(kinds == {*range(len(kinds))}, "policies", "numbered 0, 1, ... without a gap")
        self.require(self.opponents >= 0, "opponents", "at least 0")
        self.require(self.opponent_updates >= 1, "opponent_updates", "at least 1")
        for name in ("policies", "opponents"):
            alone = not (getattr(self, name) and self.memory)
            self.require(alone, "memory", f"0 with {name}: those do not remember")
        self.require(not (self.policies and self.opponents), "policies", "left out with opponents")
        whole = self.opponents == 0 or self.num_envs // num_devices % self.opponents == 0
        worlds = f"a divisor of the {self.num_envs // num_devices} worlds of each device"
        self.require(whole, "opponents", worlds)
        for name in ("policy_hidden", "value_hidden", *CONVOLUTIONS):
            self.require(all(n >= 1 for n in getattr(self, name)), name, "of numbers from 1 on")
        for name in CONVOLUTIONS:
            count = len(self.conv_filters)
            each = f"a number for each of the convolutions, of which conv_filters names {count}"
            self.require(len(getattr(self, name)) == count > 0, name, each)


def fits_32_bits(value: object) -> bool:
    """Is it no number that the devices, which count and compute in 32 bits, would take for another
    one: too large, or so small that it is 0 there?"""
    if isinstance(value, int):
        return abs(value) < 2**31
    if isinstance(value, float) and value and math.isfinite(value):
        return 2.0**-126 <= abs(value) < 2.0**128
    return True


def near(value: int, works: Callable[[int], bool]) -> str:
    """The nearest numbers that work below and above `value`, in words."""
    below = next((n for n in range(value, 0, -1) if works(n)), None)
    above = next((n for n in range(value, 2 * value + 1000) if works(n)), None)
    return " or ".join(str(n) for n in (below, above) if n is not None)
