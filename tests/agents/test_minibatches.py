"""The cheap shuffle: a partition of all samples that mixes times, the same on any devices."""

import functools

import jax
import numpy as np
import pytest

from gpusim import sharding
from gpusim.agents.shuffle import shuffle

LENGTH, WORLDS, EPOCHS = 6, 8, 40


@functools.cache
def shuffled(num, devices=1):
    """(devices, epochs, num, samples): which of its own samples each device puts where."""
    program = functools.partial(
        shuffle,
        length=LENGTH,
        num_envs=WORLDS // devices,
        num_minibatches=num,
        num_epochs=EPOCHS,
    )
    found = sharding.all_devices(devices)
    slots, order = sharding.spmd(program, found)(sharding.replicate(jax.random.key(0), found))
    minibatches = [np.asarray(s)[np.asarray(o)] for s, o in zip(slots, order, strict=True)]
    return np.stack(minibatches).reshape(devices, EPOCHS, num, -1)


@pytest.mark.parametrize("num", [1, 2, 3, 6, 4, 12, 24])
def test_every_sample_is_in_exactly_one_minibatch_of_an_epoch(num):
    (epochs,) = shuffled(num)
    assert epochs.shape == (EPOCHS, num, LENGTH * WORLDS // num)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch, axis=None), np.arange(LENGTH * WORLDS))


def test_every_minibatch_has_every_world_equally_often():
    (epochs,) = shuffled(3)
    for minibatch in epochs.reshape(3 * EPOCHS, -1):
        np.testing.assert_array_equal(np.bincount(minibatch % WORLDS), [2] * WORLDS)


def test_minibatches_mix_times_and_differ_between_epochs():
    (epochs,) = shuffled(3)
    assert all(len(set(minibatch // WORLDS)) > 2 for minibatch in epochs[0])
    pairs = {tuple(sorted(epoch[0, epoch[0] % WORLDS == 0])) for epoch in epochs}
    assert len(pairs) > LENGTH  # world 0's two samples in the first minibatch


@pytest.mark.parametrize("num", [2, 6, 4])
def test_two_devices_form_the_same_minibatches(num):
    one, two = shuffled(num, 1), shuffled(num, 2)
    time, world = np.divmod(two, WORLDS // 2)
    world = world + np.arange(2)[:, None, None, None] * (WORLDS // 2)
    together = np.concatenate(time * WORLDS + world, axis=-1)  # (epochs, minibatches, samples)
    np.testing.assert_array_equal(np.sort(together), np.sort(one[0]))
