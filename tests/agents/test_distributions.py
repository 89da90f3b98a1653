"""Densities and entropies against numbers worked out by hand, and against integration."""

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.agents.distributions import Categorical, Choice, Clipped, Normal, Tanh

STANDARD = Normal(jnp.zeros((1, 1)), jnp.zeros((1, 1)))


def test_standard_normal_by_hand():
    # log φ(0) = -log(2π)/2 = -0.918939, log φ(2) = -2.918939, H = (1 + log 2π)/2 = 1.418939
    np.testing.assert_allclose(
        Clipped.log_prob(STANDARD, jnp.zeros((1, 1))), [-0.918939], rtol=1e-6
    )
    np.testing.assert_allclose(
        Clipped.log_prob(STANDARD, jnp.full((1, 1), 2.0)), [-2.918939], rtol=1e-6
    )
    np.testing.assert_allclose(Clipped.entropy(STANDARD, jnp.zeros((1, 1))), [1.418939], rtol=1e-6)


def test_two_actions_by_hand():
    # means 1, -1, deviations 2, 1/2, sample 3, -1: z = 1, 0; the log deviations cancel
    normal = Normal(jnp.array([[1.0], [-1.0]]), jnp.log(jnp.array([[2.0], [0.5]])))
    got = Clipped.log_prob(normal, jnp.array([[3.0], [-1.0]]))
    np.testing.assert_allclose(got, [-0.5 - 2 * 0.918939], rtol=1e-6)
    np.testing.assert_allclose(Clipped.entropy(normal, got), [2 * 1.418939], rtol=1e-6)


def test_tanh_density_integrates_to_one():
    normal = Normal(jnp.full((1, 1), 0.3), jnp.full((1, 1), -0.5))
    action = jnp.linspace(-0.99999, 0.99999, 200_001)[None]
    density = jnp.exp(Tanh.log_prob(normal, jnp.arctanh(action)))
    np.testing.assert_allclose(jnp.trapezoid(density, action[0]), 1.0, atol=1e-3)


def test_tanh_entropy_is_minus_the_mean_log_density():
    normal = Normal(jnp.full((1, 1), 0.3), jnp.full((1, 1), -0.5))
    u = Clipped.sample(normal, jax.random.normal(jax.random.key(0), (1, 100_000)))
    mean_log_density = Tanh.log_prob(normal, u).mean()
    np.testing.assert_allclose(Tanh.entropy(normal, u).mean(), -mean_log_density, atol=1e-2)


def test_tanh_entropy_knows_that_a_wide_gaussian_is_not_random_after_squashing():
    """Squashed actions are most uniform near std 0.87: beyond, the entropy must pull back."""
    noise = jax.random.normal(jax.random.key(0), (1, 10_000))

    def slope(log_std):
        def entropy(log_std):
            normal = Normal(jnp.zeros((1, 1)), jnp.full((1, 1), log_std))
            u = jax.lax.stop_gradient(Clipped.sample(normal, noise))
            return Tanh.entropy(normal, u).mean()

        return jax.grad(entropy)(log_std)

    assert slope(-2.0) > 0
    assert slope(2.0) < 0


def test_actions_stay_in_range_and_far_samples_have_finite_density():
    u = jnp.array([[-50.0, -0.5, 0.5, 50.0]])
    for distribution in (Clipped, Tanh):
        assert jnp.abs(distribution.to_action(u)).max() <= 1
        assert jnp.isfinite(distribution.log_prob(STANDARD, u)).all()
    np.testing.assert_allclose(Clipped.to_action(u), [[-1, -0.5, 0.5, 1]])


def test_sample_moments():
    normal = Normal(jnp.full((1, 1), 2.0), jnp.log(jnp.full((1, 1), 3.0)))
    drawn = Clipped.sample(normal, jax.random.normal(jax.random.key(1), (1, 100_000)))
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [2, 3], atol=0.03)


def test_a_choice():
    """Probabilities 1/8, 5/8, 2/8: densities and entropy by hand, draws by frequency."""
    p = np.array([1, 5, 2]) / 8
    choice = Choice(jnp.log(jnp.asarray(p))[:, None] + jnp.array([0.0, 7.0]))  # a shift is nothing
    u = jnp.array([[0, 2]])
    np.testing.assert_allclose(Categorical.log_prob(choice, u), np.log([1 / 8, 2 / 8]), rtol=1e-5)
    entropy = -(p * np.log(p)).sum()
    np.testing.assert_allclose(Categorical.entropy(choice, u), [entropy, entropy], rtol=1e-5)
    assert Categorical.mode(choice).tolist() == [[1, 1]]
    many = Choice(jnp.broadcast_to(choice.logits[:, :1], (3, 100_000)))
    drawn = Categorical.sample(many, Categorical.noise(jax.random.key(0), (3, 100_000)))
    assert drawn.shape == (1, 100_000)
    np.testing.assert_allclose(np.bincount(drawn[0]) / 100_000, p, atol=0.006)
    assert Categorical.to_action(drawn).shape == (100_000,)
    slope = jax.grad(lambda x: Categorical.log_prob(Choice(x), jnp.array([[1]]))[0])(
        jnp.log(p)[:, None]
    )
    np.testing.assert_allclose(slope[:, 0], np.array([0, 1, 0]) - p, atol=1e-6)
