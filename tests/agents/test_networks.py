"""Networks: orientation, start values, and that any batch shape means the same."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.agents import networks


def policy(hidden=(8, 8), actions=3, features=5):
    network: Any = networks.Policy(hidden, actions, "tanh", 0.6)
    return network, network.init(jax.random.key(0), jnp.zeros(features))


def test_value_network_is_the_textbook_one():
    network: Any = networks.Value((4,), "relu")
    params = network.init(jax.random.key(0), jnp.zeros(2))
    first, last = params["params"]["MLP_0"]["Dense_0"], params["params"]["MLP_0"]["Dense_1"]
    obs = np.array([[0.5, -1.0, 3.0], [2.0, 0.1, -0.3]], np.float32)
    hidden = np.maximum(np.asarray(first["weight"]) @ obs + np.asarray(first["bias"])[:, None], 0)
    expected = np.asarray(last["weight"]) @ hidden + np.asarray(last["bias"])[:, None]
    np.testing.assert_allclose(network.apply(params, obs), expected[0], rtol=1e-5)


def test_one_world_or_a_block_of_them():
    network, params = policy()
    obs = jax.random.normal(jax.random.key(1), (5, 2, 4))
    block = network.apply(params, obs)
    assert block.mean.shape == (3, 2, 4)
    one = network.apply(params, obs[:, 1, 2])
    np.testing.assert_allclose(one.mean, block.mean[:, 1, 2], rtol=1e-5, atol=1e-7)
    assert one.log_std.shape == (3,)


def test_first_policy_explores_and_ignores_the_state():
    network, params = policy(hidden=(64, 64))
    normal = network.apply(params, jax.random.normal(jax.random.key(1), (5, 100)))
    assert jnp.abs(normal.mean).max() < 0.1
    np.testing.assert_allclose(jnp.exp(normal.log_std), 0.6, rtol=1e-6)


def test_hidden_weights_are_orthogonal():
    _, params = policy()
    weight = np.asarray(params["params"]["MLP_0"]["Dense_1"]["weight"])
    np.testing.assert_allclose(weight @ weight.T, 2 * np.eye(8), atol=1e-5)


def test_many_weights_on_two_devices_begin_as_each_alone():
    """XLA's own batch of these decompositions never returns: nor did SAC's and TD3's beginning."""
    begin = lambda key: networks.orthogonal(1.0)(key, (256, 256))
    keys = jax.random.split(jax.random.key(0), (2, 8))
    many = jax.pmap(jax.vmap(begin))(keys)
    np.testing.assert_array_equal(many[1, 2], begin(keys[1, 2]))
