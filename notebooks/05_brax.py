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
# # Bring your Brax code
#
# An environment written for Brax stays as it is; one line makes its `step` and `reset` a kernel.
# This notebook needs the package `brax`.

# %%
# Where gpusim is not installed, in Colab say, upload the wheel that `pip wheel --no-deps .` makes.
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("gpusim") is None:
    wheels = [str(path) for path in Path.cwd().glob("gpusim-*.whl")]
    assert wheels, "upload gpusim-*.whl next to this notebook, then run this cell again"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "brax", *wheels], check=True)

# %%
import os
import time

import jax
import jax.numpy as jnp
from brax import envs

import gpusim
from gpusim import lanes
from gpusim.adapters import brax as adapter

# The tests run this notebook at a tiny size.
TINY = os.environ.get("GPUSIM_NOTEBOOK_TINY") == "1"

# %%
plain = envs.get_environment("inverted_pendulum", backend="spring")
fast = lanes.vectorize(plain)  # the one line: still a brax.envs.Env
worlds, count = (16, 3) if TINY else (1024, 200)


def steps_a_second(env):
    """Of so many worlds, with one action; and what they see after one step."""
    state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), worlds))
    actions = jnp.full((worlds, env.action_size), 0.1)
    step = jax.vmap(env.step)
    play = jax.jit(lambda s: jax.lax.fori_loop(0, count, lambda _, s: step(s, actions), s))
    jax.block_until_ready(play(state))  # compiles
    start = time.perf_counter()
    jax.block_until_ready(play(state))
    return worlds * count / (time.perf_counter() - start), jax.jit(step)(state, actions).obs


(slow, seen), (quick, same) = steps_a_second(plain), steps_a_second(fast)
print(f"XLA {slow:,.0f} steps a second, kernel {quick:,.0f}")
print(f"largest difference of an observation: {jnp.abs(seen - same).max():.1e}")

# %% [markdown]
# ## In our learner
#
# The same environment by its name, trained by the learner here, restarts and evaluations as kernels
# too.

# %%
settings = {"total_steps": 1e6, "num_envs": 1024}
if TINY:
    settings = {"num_envs": 16, "unroll_length": 4, "num_minibatches": 2, "total_steps": 512}
    settings |= {"episode_length": 20, "evaluations": 1, "eval_envs": 4, "tensorboard": False}

run = gpusim.train("brax:inverted_pendulum@spring", **settings)
gpusim.play(run, episodes=4 if TINY else 32)

# %% [markdown]
# ## The other way
#
# Any world of ours is a Brax environment for Brax's learners, `gpusim.adapters.brax.Env(world)`,
# and `--env playground:NAME` trains in MuJoCo Playground's environments (package `playground`).

# %%
theirs = adapter.Env(gpusim.make("hopper"))
print(theirs.observation_size, theirs.action_size, theirs.backend)
