# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Our worlds in RLlib
#
# RLlib knows environments by names that it is told with `register_env`. What it gets is our
# Gymnasium adapter: one world, in NumPy, stepped by RLlib's own workers. This notebook needs
# `gymnasium`, `ray[rllib]` and `torch`.

# %%
# Where gpusim is not installed, in Colab say, upload the wheel that `pip wheel --no-deps .` makes.
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("gpusim") is None:
    wheels = [str(path) for path in Path.cwd().glob("gpusim-*.whl")]
    assert wheels, "upload gpusim-*.whl next to this notebook, then run this cell again"
    needed = [*wheels, "gymnasium", "ray[rllib]", "torch"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needed], check=True)

# %%
import logging
import os
import time
import warnings

warnings.filterwarnings("ignore")  # Ray's, of its own parts

import ray  # noqa: E402
from ray.rllib.algorithms.ppo import PPOConfig  # noqa: E402
from ray.tune.registry import register_env  # noqa: E402

from gpusim.adapters import gymnasium as adapter  # noqa: E402

logging.disable(logging.WARNING)
# The tests run this notebook at a tiny size.
TINY = os.environ.get("GPUSIM_NOTEBOOK_TINY") == "1"

# %% [markdown]
# ## A name for it
#
# The function is called in each worker, with what `environment(env_config=...)` says: the name and
# the options of any world of `gpusim.make`.


# %%
def make(config):
    return adapter.make(**config)


register_env("gpusim", make)

env = adapter.make("inverted_pendulum")
print(env.observation_space, env.action_space, env.world.max_episode_steps)

# %% [markdown]
# ## RLlib's PPO

# %%
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
config = (
    PPOConfig()
    .environment("gpusim", env_config={"name": "inverted_pendulum"})
    .env_runners(num_env_runners=0)
    .training(
        train_batch_size_per_learner=64 if TINY else 1000,
        minibatch_size=32 if TINY else 100,
        num_epochs=1 if TINY else 5,
        lr=1e-3,
    )
    .debugging(seed=0)
)
algorithm = config.build_algo()
start = time.perf_counter()
for _ in range(1 if TINY else 8):
    found = algorithm.train()["env_runners"]
    steps = int(found["num_env_steps_sampled_lifetime"])
    print(f"{steps:6} steps, {time.perf_counter() - start:3.0f} s, return", end=" ")
    print(f"{found.get('episode_return_mean', float('nan')):.0f}")

# %% [markdown]
# The return is the steps that a pole was kept up, at most 1,000. One world at a time is what
# RLlib's interface is for, and slow. The learners here step thousands at once, as one kernel:
# notebook 01.

# %%
algorithm.stop()
ray.shutdown()
