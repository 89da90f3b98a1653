"""What critics say, by numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.agents.critics import Categorical, Quantile, Scalar

NOW = jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])  # rewards and discounts; the second one ends


def test_a_number():
    critic = Scalar()
    later = jnp.array([[2.0, 7.0]])
    np.testing.assert_allclose(critic.expected(later), [2, 7])
    np.testing.assert_allclose(critic.target(later, *NOW, jnp.array([0.25, 9.0])), [2.75, 0.5])
    assert critic.error(jnp.array([[1.0, 2.0]]), jnp.array([3.0, 2.0])) == 1.0


def test_probabilities():
    """-1, 0 and 1 become -0.5, 0.5 and 1.5, which is cut to 1; each is shared by its neighbours."""
    critic = Categorical(3, -1.0, 1.0)
    later = jnp.log(jnp.array([[0.2, 0.2], [0.3, 0.3], [0.5, 0.5]]))
    np.testing.assert_allclose(critic.expected(later), [0.3, 0.3], rtol=1e-6)
    target = critic.target(later, *NOW, 0.0)
    np.testing.assert_allclose(target.T, [[0.1, 0.25, 0.65], [0, 0.5, 0.5]], atol=1e-6)
    more = critic.target(later, NOW[0] - 1.0, NOW[1], jnp.array([0.25, 0.25]))
    np.testing.assert_allclose(
        more[:, 0], [0.2 + 0.3 * 0.25, 0.3 * 0.75 + 0.5 * 0.25, 0.375], atol=1e-6
    )
    said = jnp.log(jnp.array([[0.25], [0.25], [0.5]]))
    error = critic.error(said, jnp.array([[0.0], [0.5], [0.5]]))
    np.testing.assert_allclose(error, 0.5 * np.log(4) + 0.5 * np.log(2), rtol=1e-6)
    slope = jax.grad(critic.error)(later, jax.nn.softmax(later, 0))
    np.testing.assert_allclose(slope, np.zeros((3, 2)), atol=1e-6)  # nothing is more likely


def test_quantiles():
    """Of two, at 1/4 and 3/4. A gap of 1 costs 1/2 times how likely it is to lie on that side."""
    critic = Quantile(2)
    said = jnp.array([[0.0], [2.0]])
    assert critic.expected(said) == 1
    np.testing.assert_allclose(critic.error(said, jnp.array([[1.0], [1.0]])), 0.5 * (0.25 + 0.25))
    np.testing.assert_allclose(critic.error(said, jnp.array([[1.0], [3.0]])), 0.5 * (
        0.25 * 0.5 + 0.25 * 2.5 + 0.25 * 0.5 + 0.75 * 0.5
    ))  # fmt: skip
    later = jnp.array([[1.0, 5.0], [2.0, 6.0]])
    target = critic.target(later, *NOW, jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(target, [[2.5, 0.5], [3.5, 0.5]])


def test_quantiles_of_what_happens_are_found():
    """Of 0 in three of four cases, else 10: where six gaps x (1 - level) and two of 1 (level), the
    slopes of Huber's loss, are in balance; likewise near 10."""
    critic, said = Quantile(8), jnp.zeros((8, 1))
    target = jnp.array([0.0, 0, 0, 0, 0, 0, 10, 10])[:, None]
    step = jax.jit(lambda said: said - 0.2 * jax.grad(critic.error)(said, target))
    for _ in range(2000):
        said = step(said)
    level = (np.arange(8) + 0.5) / 8
    low, high = level / (3 * (1 - level)), 10 - 3 * (1 - level) / level
    expected = np.where(np.arange(8) < 6, low, high)
    np.testing.assert_allclose(said[:, 0], expected, atol=1e-3)
