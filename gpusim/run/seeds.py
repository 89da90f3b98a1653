"""Several seeds trained as one program: their keys, and their numbers taken together."""

import statistics
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.config import TrainConfig
from gpusim.metrics import SPREAD

Values = Mapping[str, float]


def key(config: TrainConfig) -> jax.Array:
    """What the learner's `init` takes: the key of the seed, or those of all seeds, (seeds,)."""
    if config.num_seeds == 1:
        return jax.random.key(config.seed)
    numbers = config.seed + np.arange(config.num_seeds, dtype=np.uint32)
    return jax.vmap(jax.random.key)(jnp.asarray(numbers))


def apart(metrics: Mapping[str, np.ndarray], num: int) -> list[dict[str, float]]:
    """The metrics of each seed, from arrays of all: () of one, (seeds,) of several."""
    return [
        {name: float(np.reshape(value, num)[i]) for name, value in metrics.items()}
        for i in range(num)
    ]


def together(each: Sequence[Values]) -> dict[str, float]:
    """The mean of each metric, and its standard deviation among the seeds, if there are several.

    What is nan for a seed has nothing to say of it, and nan stands where none has.
    """
    if len(each) == 1:
        return dict(each[0])
    means, spreads = {}, {}
    for name in each[0]:
        known = [values[name] for values in each if values[name] == values[name]]
        means[name] = statistics.fmean(known) if known else float("nan")
        spreads[name + SPREAD] = statistics.pstdev(known) if known else float("nan")
    return means | spreads
