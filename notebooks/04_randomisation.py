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
# # Randomised worlds, and from one simulator to another
#
# A policy that has seen many hoppers minds less that the real one is none of them. `vary` draws
# numbers of the model anew for every episode; C MuJoCo is the other simulator here.

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
import dataclasses
import os

import jax

import gpusim
from gpusim.envs import randomize, register, registry

# The tests run this notebook at a tiny size.
TINY = os.environ.get("GPUSIM_NOTEBOOK_TINY") == "1"


# %%
@register
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class VariedHopper(registry.world_class("hopper")):
    """The hopper with masses, friction and gravity of its own in every episode."""

    spread: float = 0.3

    def vary(self, key):
        low, high = 1 - self.spread, 1 + self.spread
        mass, floor, gravity = jax.random.split(key, 3)
        return {
            **randomize.masses(mass, self.model, low, high),
            "geom_friction": randomize.scale(floor, self.model.geom_friction, low, high),
            "gravity": randomize.shift(gravity, self.model.gravity, -0.5, 0.5),
        }


# %% [markdown]
# ## Train on one hopper, and on many

# %%
# Both learn with the hopper's preset: a task derived from another has that one's.
settings = {"total_steps": 8e6}
if TINY:
    settings |= {"num_envs": 16, "unroll_length": 4, "num_minibatches": 2, "total_steps": 512}
    settings |= {"episode_length": 20, "evaluations": 1, "eval_envs": 4, "tensorboard": False}
runs = {
    "one hopper": gpusim.train("hopper", **settings),
    "many": gpusim.train("VariedHopper", **settings),
}

# %% [markdown]
# ## Who fares better in worlds that neither was trained in?
#
# `env=` plays a policy elsewhere; the same starts for both. In the run kept here the
# first had only learned to stand, for which a step earns 1.

# %%
episodes = 4 if TINY else 128
for name, run in runs.items():
    for spread in (0.0, 0.3, 0.5):
        options = {"spread": spread}
        played = gpusim.play(run, env="VariedHopper", env_options=options, episodes=episodes)
        mean = float(played.episodes.total.mean())
        print(f"trained on {name:12} played with a spread of {spread}: return {mean:,.0f}")

# %% [markdown]
# ## In C MuJoCo
#
# The same policy from the same starts, computed by MuJoCo itself.

# %%
played = gpusim.play(runs["one hopper"], episodes=4)
print(played.text())
print(played.in_mujoco().text())

# %% [markdown]
# ## On a robot
#
# One file, statistics inside, which NumPy alone can load. Actions are in [-1, 1].

# %%
path = gpusim.export.save(runs["many"], "policy.npz")
act = gpusim.export.load(path)
print(act, act([0.0] * 11).round(2))
