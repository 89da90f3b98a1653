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
import dataclasses
import os
import time
from datetime import datetime
from pathlib import Path

import jax
import jax.numpy as jnp

import gpusim
from gpusim import play
from gpusim.config import TrainConfig
from gpusim.report import replay, report
from gpusim.report.live import LiveCurve
from gpusim.run import training

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
# The settings are frozen dataclasses with one preset for each environment; `dataclasses.replace`
# changes them. The run writes a folder with its configuration, metrics and checkpoints. To stop
# early, interrupt the kernel: it saves first.

# %%
settings = TrainConfig(env="ant", seed=0)
if TINY:
    small = dataclasses.replace(
        settings.learner, total_steps=512, num_envs=16, unroll_length=4, num_minibatches=2
    )
    settings = dataclasses.replace(
        settings, learner=small, episode_length=20, evaluations=1, eval_envs=4, tensorboard=False
    )

folder = Path("runs") / f"ant-notebook-{datetime.now():%Y%m%d-%H%M%S}"
run = training.train(settings, folder, display=LiveCurve(settings.learner.total_steps))
print(run.text())

# %% [markdown]
# ## What happened
#
# The report is a page of its own, `report.html` in the run folder.

# %%
report.write(folder)
report.show(folder)

# %% [markdown]
# ## Watch it walk
#
# The trained policy plays whole episodes; the replay shows the median one, next to the best and the
# worst. Drag to orbit, scroll to zoom, space to pause.

# %%
player = play.load(folder)
episodes = play.record(player, jax.random.key(1), 4 if TINY else 32)
print(f"return {episodes.total.mean():,.0f} ± {episodes.total.std():,.0f}")
replay.show(env.drawing(), play.tracks(episodes), env.dt, title="the ant")
