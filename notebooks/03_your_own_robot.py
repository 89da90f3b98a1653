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
# # Your own robot, from an MJCF string
#
# A task is a frozen dataclass: a model, how episodes begin, what is seen, what is rewarded, what
# ends them.

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
import jax.numpy as jnp

import gpusim
from gpusim.envs import MujocoTask, register

# The tests run this notebook at a tiny size.
TINY = os.environ.get("GPUSIM_NOTEBOOK_TINY") == "1"


# %%
@register
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Balance(MujocoTask):
    """Keep a pole upright on a cart, near the middle of a rail."""

    mjcf = """
    <mujoco>
      <option timestep="0.01"/>
      <default><geom contype="0" conaffinity="0"/></default>
      <worldbody><body name="cart">
        <joint name="slide" type="slide" axis="1 0 0" range="-2 2" limited="true" damping="0.1"/>
        <geom type="box" size="0.15 0.1 0.08" mass="1"/>
        <body name="pole">
          <joint name="hinge" axis="0 1 0"/>
          <geom type="capsule" fromto="0 0 0 0 0 0.8" size="0.04" mass="0.2"/>
        </body>
      </body></worldbody>
      <actuator><motor joint="slide" gear="15" ctrllimited="true" ctrlrange="-1 1"/></actuator>
    </mujoco>"""

    n_frames: int = 2  # physics steps in a control step
    noise: float = 0.1

    def initial(self, key):
        return jax.random.uniform(key, (2,), minval=-self.noise, maxval=self.noise), jnp.zeros(2)

    def observation(self, memory, now):
        return jnp.concatenate([now.state.qpos, now.state.qvel])

    def rewards(self, past, memory, now):
        return {"upright": jnp.cos(now.state.qpos[1]), "middle": -jnp.square(now.state.qpos[0])}

    def terminal(self, memory, now):
        return jnp.abs(now.state.qpos[1]) > 0.4


# %% [markdown]
# `@register` makes it known by its name within this process; in a file of its own it is
# `my_task.py:Balance` everywhere. Options are the dataclass's fields.

# %%
env = gpusim.make("Balance", noise=0.2)
print(f"{env.observation_size} observations, {env.action_size} actions, one step is {env.dt} s")
state = env.step(env.reset(jax.random.key(0)), jnp.zeros(1))
print({name: round(float(x), 3) for name, x in state.metrics.items()})

# %%
settings = {"num_envs": 1024, "learning_rate": 2e-3, "total_steps": 2e6}
if TINY:
    settings = {"num_envs": 16, "unroll_length": 4, "num_minibatches": 2, "total_steps": 512}
    settings |= {"episode_length": 20, "evaluations": 1, "eval_envs": 4, "tensorboard": False}

run = gpusim.train("Balance", env_options={"noise": 0.2}, **settings)
print(run)

# %%
gpusim.play(run, episodes=4 if TINY else 32)
