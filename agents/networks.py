"""Policy and value networks. Samples are the LAST axis everywhere: (features, *batch).

That is the layout in which the lanes of the physics arrive, and XLA's CPU backend runs forward and
backward passes of these small networks a quarter faster in it than with samples first.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gpusim.agents.distributions import Choice, Normal
from gpusim.envs.world import ALLOWED, PRIVILEGED

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
}

NEVER = -1e9  # the logit, or the value, of a choice that is not allowed
LOG_STD = (-5.0, 2.0)  # between which a network may choose the logarithm of a spread


WHO = "whose it is"
"""The part of an observation, no feature of it, that says which policy it is for: see `label`."""


def joined(obs: Any, *, privileged: bool) -> jax.Array:
    """One array (features, *batch) of an observation, which may be a dict of them, by name.

    privileged: whether that part of it may be seen.
    """
    if not isinstance(obs, Mapping):
        return obs
    hidden = {WHO, ALLOWED} if privileged else {WHO, ALLOWED, PRIVILEGED}
    return jnp.concatenate([obs[name] for name in sorted(obs) if name not in hidden])


def label(policies: tuple[int, ...]) -> jax.Array:
    """(policies, agents): 1 where the agent follows the policy, else 0."""
    return jnp.eye(len(set(policies)))[:, jnp.asarray(policies)]


def orthogonal(gain: float) -> Callable[..., jax.Array]:
    """An initializer. Under `jax.vmap` it makes one matrix after the other: XLA's decomposition of
    a batch of large ones waits forever where two of the CPU's devices do it at once."""

    def initialize(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        one = lambda key: nn.initializers.orthogonal(gain)(key, shape)
        return jax.custom_batching.sequential_vmap(one)(key)

    return initialize


class Dense(nn.Module):
    """y = W x + b, orthogonal W. (features_in, *batch) -> (features, *batch)."""

    features: int
    gain: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", orthogonal(self.gain), (self.features, x.shape[0]))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return jnp.tensordot(weight, x, 1) + bias.reshape(-1, *(1,) * (x.ndim - 1))


class MLP(nn.Module):
    """Hidden layers of gain √2 and a linear last layer."""

    hidden: tuple[int, ...]
    outputs: int
    last_gain: float
    activation: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = ACTIVATIONS[self.activation](Dense(width, gain=2**0.5)(x))
        return Dense(self.outputs, gain=self.last_gain)(x)


class Convolution(nn.Module):
    """Filters that look at every place of a picture, which zeros surround: as few as are needed,
    half of them on either side (XLA's and TensorFlow's "SAME").

    (samples, height, width, channels) -> (samples, height / stride, width / stride, filters),
    rounded up. Computed as products of matrices of blocks of stride x stride pixels: XLA's own
    convolution takes a hundred times as long for its gradient within a loop on a CPU.
    """

    filters: int
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, s, channels = self.kernel, self.stride, x.shape[-1]
        weight = self.param("weight", orthogonal(2**0.5), (k, k, channels, self.filters))
        bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        reach = -(-k // s)  # blocks that a filter covers, one way; what it lacks there is 0
        weight = jnp.pad(weight, [(0, reach * s - k)] * 2 + [(0, 0)] * 2)
        weight = weight.reshape(reach, s, reach, s, channels, -1)
        high, wide = (-(-size // s) for size in x.shape[1:3])
        around = [_around(size, k, s, reach) for size in x.shape[1:3]]
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *around, (0, 0, 0)])
        x = x.reshape(len(x), high + reach - 1, s, wide + reach - 1, s, channels)
        found = sum(
            jnp.einsum("nykxlc,klcf->nyxf", x[:, i : i + high, :, j : j + wide], weight[i, :, j])
            for i in range(reach)
            for j in range(reach)
        )
        return found + bias


def _around(size: int, kernel: int, stride: int, reach: int) -> tuple[int, int, int]:
    """How many zeros before and after, and none between, make whole blocks of what is seen;
    negative where the last pixels are not."""
    places = -(-size // stride)
    before = max((places - 1) * stride + kernel - size, 0) // 2
    return before, (places + reach - 1) * stride - size - before, 0


class Eyes(nn.Module):
    """What convolutions find in the pictures drawn of observations, which are then forgotten.

    (features, *batch) -> (numbers found, *batch).
    """

    picture: Callable[[Any], Any]  # of one observation: see `World.picture`
    filters: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        batch = obs.shape[1:]
        x = jax.vmap(self.picture, in_axes=-1)(obs.reshape(len(obs), -1))
        for shape in zip(self.filters, self.kernels, self.strides, strict=True):
            x = ACTIVATIONS[self.activation](Convolution(*shape)(x))
        return x.reshape(len(x), -1).T.reshape(-1, *batch)


class Policy(nn.Module):
    """Gaussian over raw actions: the mean is a network's, and so is the spread if `state_std`;
    else it is learned, but blind to the state.

    The last layer starts near zero: the first policy is the same in every state, pure exploration.
    """

    hidden: tuple[int, ...]
    actions: int
    activation: str
    initial_std: float
    state_std: bool = False

    @nn.compact
    def __call__(self, obs: Any) -> Normal:
        obs = joined(obs, privileged=False)
        outputs = 2 * self.actions if self.state_std else self.actions
        found = MLP(self.hidden, outputs, 0.01, self.activation)(obs)
        start = math.log(self.initial_std)
        if self.state_std:
            mean, spread = jnp.split(found, 2)
            low, high = LOG_STD
            half = 0.5 * (high - low)
            return Normal(
                mean, low + half * (1 + jnp.tanh(spread + math.atanh((start - low) / half - 1)))
            )
        log_std = self.param("log_std", nn.initializers.constant(start), (self.actions,))
        return Normal(found, log_std.reshape(-1, *(1,) * (obs.ndim - 1)))


class Gated(nn.Module):
    """A gated recurrent unit (arXiv:1406.1078, eq. 5 to 8): what is remembered next.

    (size, *batch), (features, *batch) -> (size, *batch); all of it stays in [-1, 1].
    """

    size: int

    @nn.compact
    def __call__(self, memory: jax.Array, x: jax.Array) -> jax.Array:
        both = jnp.concatenate([memory, x])
        gate = lambda: jax.nn.sigmoid(Dense(self.size, gain=1.0)(both))
        reset, keep = gate(), gate()
        new = jnp.tanh(Dense(self.size, gain=1.0)(jnp.concatenate([reset * memory, x])))
        return keep * memory + (1 - keep) * new


class Remembering(nn.Module):
    """A network that sees what it remembers beside the observation."""

    network: nn.Module
    size: int
    privileged: bool  # whether that part of an observation may be seen

    def setup(self):
        self.unit = Gated(self.size)

    def remember(self, memory: jax.Array, obs: Any) -> jax.Array:
        """What is remembered (size, *batch) once this has been seen."""
        return self.unit(memory, joined(obs, privileged=self.privileged))

    def judge(self, memory: jax.Array, obs: Any) -> Any:
        """What the network says of an observation that has been remembered."""
        seen = jnp.concatenate([joined(obs, privileged=self.privileged), memory])
        masked = isinstance(obs, Mapping) and ALLOWED in obs
        return self.network({"": seen, ALLOWED: obs[ALLOWED]} if masked else seen)

    def __call__(self, memory: jax.Array, obs: Any) -> tuple[jax.Array, Any]:
        memory = self.remember(memory, obs)
        return memory, self.judge(memory, obs)


class Deterministic(nn.Module):
    """Raw actions without chance; as a Gaussian whose spread is nothing to speak of."""

    hidden: tuple[int, ...]
    actions: int
    activation: str

    @nn.compact
    def __call__(self, obs: Any) -> Normal:
        obs = joined(obs, privileged=False)
        mean = MLP(self.hidden, self.actions, 0.01, self.activation)(obs)
        return Normal(mean, jnp.full((1,) * mean.ndim, -20.0))


class ActionValue(nn.Module):
    """What an action is worth, as `critics` say it. (features, *batch), (actions, *batch) ->
    (outputs, *batch)."""

    hidden: tuple[int, ...]
    outputs: int
    activation: str

    @nn.compact
    def __call__(self, obs: Any, action: jax.Array) -> jax.Array:
        seen = jnp.concatenate([joined(obs, privileged=True), action])
        return MLP(self.hidden, self.outputs, 1.0, self.activation)(seen)


class Chooser(nn.Module):
    """Logits of the choices. They start near zero: at first all are as likely, but for those that
    are not allowed, which never are."""

    hidden: tuple[int, ...]
    choices: int
    activation: str

    @nn.compact
    def __call__(self, obs: Any) -> Choice:
        allowed = obs.get(ALLOWED) if isinstance(obs, Mapping) else None
        obs = joined(obs, privileged=False)
        logits = MLP(self.hidden, self.choices, 0.01, self.activation)(obs)
        return Choice(logits if allowed is None else jnp.where(allowed > 0, logits, NEVER))


class Value(nn.Module):
    """Expected discounted return. (features, *batch) -> batch. It sees all there is."""

    hidden: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:
        obs = joined(obs, privileged=True)
        return MLP(self.hidden, 1, 1.0, self.activation)(obs)[0]


class Several(nn.Module):
    """A network for each policy of several agents, and of each what it says of its own. All are
    computed for everybody."""

    network: nn.Module  # what each is like
    policies: tuple[int, ...]  # which an agent follows

    def setup(self):
        self.networks = [self.network.clone(parent=None) for _ in set(self.policies)]

    def __call__(self, obs: Any) -> Any:
        mine = obs[WHO]
        pick = lambda *said: sum(jnp.where(m > 0, x, 0) for m, x in zip(mine, said, strict=True))
        return jax.tree.map(pick, *(network(obs) for network in self.networks))
