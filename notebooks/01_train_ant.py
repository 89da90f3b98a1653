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
# # Train an ant
#
# Thousands of ants learn to walk, in this process, on whatever this machine has. The command line
# does the same: `python -m gpusim.train --env ant`.

# %%
# Where gpusim is not installed, in Colab say, upload the wheel that `pip wheel --no-deps .` makes.
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("gpusim") is None:
    wheels = [str(path) for path in Path.cwd().glob("gpusim-*.whl")]
    assert wheels, "upload gpusim-*.whl next to this notebook, then run this cell again"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wheels], check=True)

# %%
import os
import time

import jax
import jax.numpy as jnp

import gpusim
from gpusim.report import report

# The tests run this notebook at a tiny size.
TINY = os.environ.get("GPUSIM_NOTEBOOK_TINY") == "1"

# %% [markdown]
# ## One world
#
# An environment is a pair of pure functions of *one* world: `reset(key)` and `step(state, action)`.

# %%
env = gpusim.make("ant")
state = env.reset(jax.random.key(0))
state = env.step(state, jnp.zeros(env.action_size))
print(f"{env.observation_size} observations, {env.action_size} actions, one step is {env.dt} s")
print(f"reward {state.reward:.3f}, terminated {state.terminated}")
print(state.metrics)

# %% [markdown]
# ## Many worlds
#
# `jax.vmap` makes it a batch, which runs as one compiled kernel: every world is a lane of the
# processor.

# %%
worlds, steps = (16, 5) if TINY else (4096, 100)


@jax.jit
def play_at_random(key):
    """`steps` control steps of all worlds with random actions; returns the mean reward."""

    def step(state, key):
        actions = jax.random.uniform(key, (worlds, env.action_size), minval=-1.0, maxval=1.0)
        state = jax.vmap(env.step)(state, actions)
        return state, state.reward.mean()

    state = jax.vmap(env.reset)(jax.random.split(key, worlds))
    return jax.lax.scan(step, state, jax.random.split(key, steps))[1].mean()


play_at_random(jax.random.key(0)).block_until_ready()  # compiles
start = time.perf_counter()
reward = play_at_random(jax.random.key(1)).block_until_ready()
seconds = time.perf_counter() - start
print(f"mean reward {reward:.3f}, {worlds * steps / seconds:,.0f} environment steps a second")

# %% [markdown]
# ## Train
#
# Every flag of the command is a keyword; what is not said comes from the environment's preset. The
# run writes a folder with its configuration, metrics and checkpoints. To stop early, interrupt the
# kernel: it saves first.

# %%
settings = {"seed": 0}
if TINY:
    settings |= {"total_steps": 512, "num_envs": 16, "unroll_length": 4, "num_minibatches": 2}
    settings |= {"episode_length": 20, "evaluations": 1, "eval_envs": 4, "tensorboard": False}

run = gpusim.train("ant", **settings)
print(run.text())

# %% [markdown]
# ## What happened
#
# The report is a page of its own, `report.html` in the run folder.

# %%
report.show(run)

# %% [markdown]
# ## Watch it walk
#
# The trained policy plays whole episodes; the replay shows the median one, next to the best and the
# worst. Drag to orbit, scroll to zoom, space to pause.

# %%
gpusim.play(run, episodes=4 if TINY else 32, seed=1)
