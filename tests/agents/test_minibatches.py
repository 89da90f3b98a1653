"""The cheap shuffle: a partition of all samples that mixes times, the same on any devices."""

import jax
import numpy as np
import pytest

from agents.ppo import _minibatches
from gpusim import sharding

LENGTH, WORLDS = 6, 8


def shuffled(num, devices=1, seed=0):
    """(devices, num, samples): which samples of its own each device puts into each minibatch."""
    shuffle = lambda key: _minibatches(key, LENGTH, WORLDS // devices, num)
    found = sharding.local_devices(devices)
    keys = sharding.replicate(jax.random.key(seed), found)
    return np.asarray(sharding.spmd(shuffle, found)(keys))


@pytest.mark.parametrize("num", [1, 2, 3, 6, 4, 12, 24])
def test_every_sample_is_in_exactly_one_minibatch(num):
    (index,) = shuffled(num)
    assert index.shape == (num, LENGTH * WORLDS // num)
    np.testing.assert_array_equal(np.sort(index, axis=None), np.arange(LENGTH * WORLDS))


def test_every_minibatch_has_every_world_equally_often():
    (index,) = shuffled(3)
    for minibatch in index:
        np.testing.assert_array_equal(np.bincount(minibatch % WORLDS), [2] * WORLDS)


def test_any_two_worlds_meet_at_all_pairs_of_times():
    """Which minibatch (time) world 1 joins when world 0 is there at time 0, over many draws."""
    partners = set()
    for seed in range(40):
        (index,) = shuffled(6, seed=seed)
        time = {world: t for t, world in (divmod(i, WORLDS) for i in _minibatch_with(index, 0))}
        partners.add(time[1])
    assert partners == set(range(LENGTH))


@pytest.mark.parametrize("num", [2, 6, 4])
def test_two_devices_form_the_same_minibatches(num):
    one, two = shuffled(num, 1), shuffled(num, 2)
    time, world = np.divmod(two, WORLDS // 2)
    world = world + np.arange(2)[:, None, None] * (WORLDS // 2)
    whole = time * WORLDS + world
    for minibatch in range(num):
        together = np.sort(whole[:, minibatch], axis=None)
        np.testing.assert_array_equal(together, np.sort(one[0, minibatch]))


def _minibatch_with(index, sample):
    return next(minibatch for minibatch in index if sample in minibatch)
