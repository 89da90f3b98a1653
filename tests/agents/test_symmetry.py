"""A world in a mirror: what is learned of one side is known of the other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import ChoiceReward, Probe
from test_ppo import TINY, actions, make, trained, values

from gpusim.agents import normalize
from gpusim.agents.ppo import PPO
from gpusim.agents.ppo.learner import Batch
from gpusim.agents.symmetry import Mirror


@dataclasses.dataclass(frozen=True, eq=False)
class OneSided(Probe):
    """It is always seen on the right, 1; there 0.5 is the best that can be done."""

    def mirrored(self, obs, action):
        return jnp.stack([-obs[0], obs[1]]), -action


ONE_SIDED = OneSided(
    reward=lambda obs, action, steps: -jnp.square(action[0] - 0.5 * obs[0]) + obs[1],
    observe=lambda steps, key: jnp.array([1.0, 2.0]),
)


def test_what_is_learned_on_one_side_is_known_on_the_other():
    both = dataclasses.replace(TINY, mirror=True)
    learner, state, _ = trained(ONE_SIDED, both)
    seen = [1.0, 2.0], [-1.0, 2.0]
    np.testing.assert_allclose(actions(learner, state, *seen), [0.5, -0.5], atol=0.1)
    np.testing.assert_allclose(values(learner, state, *seen), [2, 2], atol=0.2)


def test_a_policy_unlike_its_image_has_not_moved():
    learner = make(ONE_SIDED, dataclasses.replace(TINY, mirror=True))
    params = jax.tree.map(lambda x: x[0] + 0.3, learner.init(jax.random.key(0)).params)
    obs, action = jnp.tile(jnp.array([[1.0], [2.0]]), 50), jnp.linspace(-0.5, 0.5, 50)[None]
    say = lambda obs, action: learner.distribution.log_prob(
        learner.said("policy", params, (), obs, ()), action
    )
    log_prob, none = say(obs, action), jnp.zeros(50)
    batch = Batch(obs, action, log_prob, none, none, none, (), ())
    both = learner.with_images(batch)
    assert jnp.abs(say(both.obs, both.action) - both.log_prob).max() > 0.3
    metrics = learner.loss(params, both, 0.0)[1]
    assert metrics["kl"] == metrics["clip_fraction"] == 0


@dataclasses.dataclass(frozen=True, eq=False)
class Sides(Probe):
    """A number that points to the side, and one for each side."""

    def mirrored(self, obs, action):
        return {"": jnp.stack([-obs[""][0], obs[""][2], obs[""][1]])}, action[::-1]


SIDES = Sides(
    reward=lambda obs, action, steps: jnp.zeros(()),
    observe=lambda steps, key: {"": jnp.zeros(3)},  # pyright: ignore[reportArgumentType]
    action_space=dataclasses.replace(Probe.action_space, size=2),
)


def test_an_image_has_numbers_in_another_order():
    obs, action = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), jnp.array([[7.0, 8.0], [9, 10]])
    there, its_action = Mirror.of(SIDES).image({"": obs}, action)
    assert there[""].tolist() == [[-1, -2], [5, 6], [3, 4]]
    assert its_action.tolist() == [[9, 10], [7, 8]]


def test_statistics_are_of_both_sides():
    mirror, obs = Mirror.of(SIDES), jax.random.normal(jax.random.key(0), (3, 50)) + 2
    there, _ = mirror.image({"": obs}, jnp.zeros((2, 50)))
    both = {"": jnp.concatenate([obs, there[""]], -1)}
    found = mirror.balanced(normalize.measure({"": obs}))
    expected = normalize.measure(both)
    np.testing.assert_allclose(found.mean[""], expected.mean[""], atol=1e-6)
    np.testing.assert_allclose(found.variance[""], expected.variance[""], rtol=1e-5)


class Doubled(OneSided):
    def mirrored(self, obs, action):
        return 2 * obs, action


class Turned(OneSided):
    def mirrored(self, obs, action):
        return jnp.stack([obs[1], -obs[0]]), action


class Same(OneSided):
    def mirrored(self, obs, action):
        return obs, action


@pytest.mark.parametrize(
    ("world", "told"),
    [
        (ChoiceReward, "choices for actions"),
        (Probe(reward=ONE_SIDED.reward, observe=ONE_SIDED.observe), "Probe does not say"),
        (Doubled(reward=ONE_SIDED.reward, observe=ONE_SIDED.observe), "give back"),
        (Turned(reward=ONE_SIDED.reward, observe=ONE_SIDED.observe), "give back"),
        (Same(reward=ONE_SIDED.reward, observe=ONE_SIDED.observe), "its own mirror image"),
    ],
)
def test_worlds_without_a_mirror_image_are_refused(world, told):
    with pytest.raises(ValueError, match=f"mirror: .*{told}"):
        PPO(dataclasses.replace(TINY, mirror=True), world, devices=1)


def test_memories_have_no_mirror_image():
    with pytest.raises(ValueError, match="mirror is True, needs to be off with memory"):
        dataclasses.replace(TINY, mirror=True, memory=4).check(1)
