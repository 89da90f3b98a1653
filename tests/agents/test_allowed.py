"""Choices that are not allowed now are never made, by any learner."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpusim import agents
from gpusim.envs import Discrete, State, World
from gpusim.envs.world import ALLOWED, WorldError

SIZES = {"num_envs": 32, "total_steps": 32 * 8 * 120, "unroll_length": 8}
LEARNERS: dict[str, dict[str, Any]] = {
    "ppo": {"num_minibatches": 4, "discount": 0.0, "learning_rate": 5e-3, "updates_per_call": 30},
    "reinforce": {"discount": 0.0, "learning_rate": 2e-2, "updates_per_call": 60},
    "dqn": {"learning_starts": 64, "batch_size": 64, "learning_rate": 3e-3, "replay_size": 4096},
    "es": {"unroll_length": 8, "learning_rate": 0.1, "noise_std": 0.3, "updates_per_call": 40},
}


class Gates(World):
    """The choice earns its number, and one that was not allowed breaks something. Where the coin
    shows 1, 2 is not allowed; where it shows -1, 1 is not."""

    action_space, max_episode_steps = Discrete(3), 4

    def start(self, key: jax.Array) -> State:
        return self.at(key, 0.0, 0.0)

    def transition(self, state: State, action: jax.Array) -> State:
        key, allowed = state.carry
        return self.at(key, action.astype(float), 1.0 - allowed[action])

    def at(self, key: jax.Array, reward: Any, broken: Any) -> State:
        key, use = jax.random.split(key)
        coin = jax.random.bernoulli(use)
        allowed = jnp.where(coin, jnp.array([1.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 1.0]))
        obs = {"coin": jnp.where(coin, 1.0, -1.0)[None], ALLOWED: allowed}
        return State.of((key, allowed), obs, reward=reward, metrics={"broken": broken})


@pytest.mark.parametrize(
    "name", [*LEARNERS, pytest.param("ppo that remembers", marks=pytest.mark.slow)]
)
def test_what_is_not_allowed_is_never_done(name: str):
    learner_name, _, remembers = name.partition(" ")
    module = agents.find(learner_name)
    more = {"memory": 4} if remembers else {}
    config = module.Config(**SIZES | LEARNERS[learner_name] | more)
    learner = module.Learner(config, Gates(), devices=1)
    state, report = learner.train_step(learner.init(jax.random.key(0)))
    assert float(report.metrics["world/broken"]) == 0
    assert all(np.isfinite(float(x)) for x in report.metrics.values())
    obs = {"coin": jnp.array([[1.0], [-1.0]]), ALLOWED: jnp.array([[1.0, 1, 0], [1, 0, 1]])}
    for key in (None, jax.random.key(0)):
        policy = learner.policy(state)
        _, action = policy.act(policy.initial((2,)), obs, key)
        assert obs[ALLOWED][jnp.arange(2), action].all()
    assert policy.act(policy.initial((2,)), obs)[1].tolist() == [1, 2]


def test_what_a_world_may_say_of_it():
    class Short(Gates):
        def at(self, key: Any, reward: Any, broken: Any) -> State:
            state = super().at(key, reward, broken)
            return state.replace(obs={**state.obs, ALLOWED: jnp.ones(2)})

    class Alone(Gates):
        def at(self, key: Any, reward: Any, broken: Any) -> State:
            state = super().at(key, reward, broken)
            return state.replace(obs={ALLOWED: state.obs[ALLOWED]})

    with pytest.raises(WorldError, match=r"'allowed' is float32\[2\], and actions are Discrete"):
        Short().reset(jax.random.key(0))
    with pytest.raises(WorldError, match="no part that the policy may see"):
        Alone().reset(jax.random.key(0))
