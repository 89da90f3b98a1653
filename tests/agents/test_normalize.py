"""Running statistics against NumPy on all the data at once."""

import jax.numpy as jnp
import numpy as np
import pytest

from gpusim import sharding
from gpusim.agents import normalize


def batches(sizes, features=3, offset=0.0):
    rng = np.random.default_rng(1)
    scale = np.array([[1.0], [0.1], [30.0]])[:features]
    return [rng.normal(offset, scale, (features, n)).astype(np.float32) for n in sizes]


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_merge_is_exact_however_the_samples_are_split(offset):
    parts = batches([5, 1, 100, 17], offset=offset)
    statistics = normalize.init(jnp.zeros(3))
    for part in parts:
        statistics = normalize.merge(statistics, normalize.measure(jnp.asarray(part)))
    whole = np.concatenate(parts, axis=1, dtype=np.float64)
    assert statistics.count == whole.shape[1]
    np.testing.assert_allclose(statistics.mean, whole.mean(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics.variance, whole.var(1), rtol=2e-3)


def test_devices_merge_to_the_whole():
    devices = sharding.all_devices(2)
    whole = batches([64])[0]
    shards = jnp.stack(jnp.split(jnp.asarray(whole), 2, axis=1))
    measured = sharding.spmd(lambda x: normalize.over_devices(normalize.measure(x)), devices)(
        shards
    )
    for device in range(2):
        assert measured.count[device] == 64
        np.testing.assert_allclose(measured.mean[device], whole.mean(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(measured.variance[device], whole.var(1), rtol=1e-5)


def test_normalized_samples_have_unit_moments_and_are_clipped():
    samples = jnp.asarray(batches([1000])[0])
    statistics = normalize.merge(normalize.init(jnp.zeros(3)), normalize.measure(samples))
    got = normalize.normalize(statistics, samples)
    np.testing.assert_allclose(got.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(got.std(1), 1, rtol=1e-3)
    far = normalize.normalize(statistics, jnp.array([1e6, -1e6, 0.0]))
    np.testing.assert_allclose(far[:2], [normalize.CLIP, -normalize.CLIP])


def test_a_feature_that_never_moves_stays_finite():
    statistics = normalize.merge(
        normalize.init(jnp.zeros(1)), normalize.measure(jnp.full((1, 8), 7.0))
    )
    assert normalize.normalize(statistics, jnp.array([7.0])) == 0


def test_what_is_not_finite_is_not_learned():
    good = normalize.merge(normalize.init(jnp.zeros(2)), normalize.measure(jnp.ones((2, 4))))
    bad = normalize.merge(good, normalize.measure(jnp.array([[1.0, jnp.nan], [3.0, 3.0]])))
    assert bad.mean[0] == good.mean[0]
    assert jnp.isfinite(bad.variance).all()
    assert bad.mean[1] > good.mean[1]


def test_without_statistics_observations_pass():
    obs = jnp.array([20.0, -3.0])
    assert (normalize.normalize(None, obs) == obs).all()
