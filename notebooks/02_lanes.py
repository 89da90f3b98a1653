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
# # What a lane is
#
# You write one world as ordinary JAX. `gpusim.lanes` compiles it into a kernel in which every
# number is a vector whose elements, the *lanes*, are different worlds.

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
import warnings

import jax
import jax.numpy as jnp

import gpusim
from gpusim import lanes

# The tests run this notebook at a tiny size.
TINY = os.environ.get("GPUSIM_NOTEBOOK_TINY") == "1"

# %% [markdown]
# ## Any function of small arrays
#
# A pendulum is two numbers. Alone the kernel computes one world, under `jax.vmap` it is one pass
# over all of them.


# %%
@lanes.kernel
def swing(angle, speed):
    """One step of 10 ms of a pendulum of 1 m."""
    speed = speed - 0.0981 * jnp.sin(angle)
    return angle + 0.01 * speed, speed


print("one world:", swing(jnp.float32(1.0), jnp.float32(0.0)))
angles = jnp.linspace(-3.0, 3.0, 1_000 if TINY else 100_000)
angles, speeds = jax.jit(jax.vmap(swing))(angles, jnp.zeros_like(angles))
print("many:", angles.shape, speeds.shape)

# %% [markdown]
# ## The same numbers as JAX's own
#
# A kernel is the function itself, to rounding: `env.transition` is the hopper's step before it is
# compiled.

# %%
env = gpusim.make("hopper")
worlds = 16 if TINY else 1024
states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), worlds))
actions = jax.random.uniform(jax.random.key(1), (worlds, env.action_size), minval=-1.0)
by_kernel = jax.jit(jax.vmap(env.step))
by_xla = jax.jit(jax.vmap(env.transition))
difference = jnp.abs(by_kernel(states, actions).obs - by_xla(states, actions).obs).max()
print(f"largest difference of an observation: {difference:.1e}")
assert difference < 1e-2

# %% [markdown]
# ## What it is good for
#
# The same program by XLA, operation by operation, and as one kernel, on this machine:


# %%
def steps_a_second(step, count):
    """Environment steps a second of all worlds."""
    play = jax.jit(lambda s: jax.lax.fori_loop(0, count, lambda _, s: step(s, actions), s))
    jax.block_until_ready(play(states))  # compiles
    start = time.perf_counter()
    jax.block_until_ready(play(states))
    return worlds * count / (time.perf_counter() - start)


count = 3 if TINY else 20
for name, step in (("XLA", by_xla), ("kernel", by_kernel)):
    print(f"{name:8}{steps_a_second(step, count):12,.0f} steps a second")

# %% [markdown]
# ## What it cannot do
#
# What cannot be compiled is refused, with the primitive and your line, or runs through XLA with a
# warning that says why: a random key that is not threefry's, a callback, a program too large for
# the compiler's budget.


# %%
@lanes.kernel
def spectrum(x):
    """Lanes have no Fourier transform."""
    return jnp.abs(jnp.fft.fft(x)).sum()


try:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        print(jax.vmap(spectrum)(jnp.ones((4, 8))), [str(w.message) for w in told])
except Exception as error:
    print(type(error).__name__, error)
