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
# # One file describes a run
#
# What users of Catalyst.RL know: a run in a YAML file, of which several merge; worlds that explore
# differently; a replay that is drawn from n steps at a time; the best policy kept; episodes dumped,
# and learned from by another learner.

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

from IPython.display import display

import gpusim

# The tests run this notebook at a tiny size.
TINY = os.environ.get("GPUSIM_NOTEBOOK_TINY") == "1"

# %% [markdown]
# ## Files that merge
#
# A later file wins, and a flag wins over both. A name that is not known, or said twice in a file,
# is refused with where it stands.

# %%
Path("dqn.yaml").write_text("""\
env: CartPole-v1
learner: dqn
evaluations: 4
dqn:
  total_steps: 150_000
  n_step: 3
""")
Path("exploring.yaml").write_text("""\
dqn:
  exploration_low: 0.01  # the share of random choices of the first world
  exploration_high: 0.4  # that of the last; those between have values between
""")
Path("tiny.yaml").write_text("""\
dqn: {total_steps: 2048, learning_starts: 256, updates_per_call: 4}
eval_envs: 4
evaluations: 1
""")
files = ["dqn.yaml", "exploring.yaml"] + (["tiny.yaml"] if TINY else [])
run = gpusim.train(config=files, out="runs/dqn", seed=1)

# %% [markdown]
# ## What is kept
#
# Evaluations play whole episodes from the same starts, without exploring. The newest checkpoints
# are kept, and the best by these.

# %%
told = subprocess.run(
    [sys.executable, "-m", "gpusim.checkpoint", "runs/dqn"], capture_output=True, text=True
)
print(told.stdout)

# %%
best = gpusim.play(run, checkpoint="best")
display(best)

# %% [markdown]
# ## Episodes, and who learns from them
#
# `save` keeps those that earned enough: an .npz of plain arrays. Behaviour cloning learns from the
# file alone; evaluations play.

# %%
kept = best.save("episodes.npz", min_return=0 if TINY else 400)
print(kept, "episodes")
sizes = {"total_steps": 2048 if TINY else 2_000_000, "evaluations": 1}
clone = gpusim.train("CartPole-v1", learner="bc", dataset="episodes.npz", out="runs/clone", **sizes)

# %%
print("whose episodes they are:", best.text().splitlines()[2])
print("who learned from them:  ", gpusim.play(clone).text().splitlines()[2])
