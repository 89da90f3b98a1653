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
# # Scaling out: devices, hosts and Ray
#
# The same run on more devices, on several hosts, and many runs on a cluster. One machine is enough
# to try all of it: its cores stand for devices, its processes for hosts, and Ray believes in two
# nodes.

# %%
# Where gpusim is not installed, in Colab say, upload the wheel that `pip wheel --no-deps .` makes.
import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("gpusim") is None:
    wheels = [str(path) for path in Path.cwd().glob("gpusim-*.whl")]
    assert wheels, "upload gpusim-*.whl next to this notebook, then run this cell again"
    needed = [*wheels, "ray[tune]"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needed], check=True)

# %%
import os
import re
import socket
import warnings

# Four devices made of this machine's CPU. It has to be said before JAX begins.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import numpy as np
from IPython.display import display

import gpusim
from gpusim.report import report

warnings.filterwarnings("ignore", "os.fork")  # another program begins at once in what is forked
print(jax.devices())
del os.environ[
    "XLA_FLAGS"
]  # of this process alone: the ones that it starts have devices of their own

# The tests run this notebook at a tiny size.
TINY = os.environ.get("GPUSIM_NOTEBOOK_TINY") == "1"
RAY = importlib.util.find_spec("ray") is not None

# %% [markdown]
# ## Devices
#
# `--devices N` shares the worlds of a run among N devices: parameters are the same on all of them,
# and what they learn is averaged. `jax.pmap` spreads the program, or `shard_map`, with the same
# bits. On a node of a cluster these would be GPUs. (Virtual devices share the cores that there are:
# nothing gets faster here by having more of them than cores; `python -m bench.scaling` measures.)

# %%
settings = {"env": "hopper", "num_envs": 64, "unroll_length": 16, "eval_envs": 16}
settings |= {"total_steps": 40_000, "evaluations": 2, "tensorboard": False}
if TINY:
    settings |= {"num_envs": 16, "unroll_length": 4, "num_minibatches": 2, "eval_envs": 4}
    settings |= {"total_steps": 1024, "episode_length": 20}


class Quiet:
    """A display that shows nothing."""

    def stage(self, text): ...
    def message(self, text): ...
    def write(self, row): ...
    def close(self): ...


def newest(run):
    """The last checkpoint of a run: NumPy's own format."""
    return np.load(max(Path(run).glob("checkpoints/0*.npz")))


for devices in (1, 2, 4):
    run = gpusim.train(**settings, devices=devices, out=f"runs/{devices}", display=Quiet())
    print(devices, "devices:", run)

gpusim.train(**settings, devices=4, spmd="shard_map", out="runs/shard_map", display=Quiet())
one, other = newest("runs/4"), newest("runs/shard_map")
same = all((one[name] == other[name]).all() for name in one.files if name != "manifest")
print("pmap and shard_map leave the same bits:", same)

# %% [markdown]
# ## Hosts
#
# Several processes, here on one machine, are one run: each gets the same flags and its own number.
# A signal at one stops all; one that disappears ends the others with a line, and the same command
# goes on from the last checkpoint. Under SLURM they find each other.


# %%
def flags(settings):
    """Settings as words of the command line."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def told(text):
    """The lines that say what was done."""
    return "\n".join(re.findall(r"hopper(?:: \d+ worlds|, eval).*", text))


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    coordinator = f"127.0.0.1:{free.getsockname()[1]}"

command = [sys.executable, "-m", "gpusim.train", *flags(settings), "--out", "runs/hosts"]
command += ["--devices", "1", "--coordinator", coordinator, "--num-processes", "2", "--process-id"]
pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
processes = [subprocess.Popen([*command, str(i)], **pipes) for i in range(2)]
said = [process.communicate()[0] for process in processes]
print(told(said[0]))
print("exit statuses", [process.returncode for process in processes])

# %% [markdown]
# ## Ray: a recipe
#
# Ray Tune starts trials, each of which is a run of ours, and stops them. First, Ray itself.

# %%
if RAY:
    import logging

    import ray
    from ray import tune

    from gpusim import sweep

    logging.disable(logging.WARNING)
    ray.init("local", include_dashboard=False, log_to_driver=False)  # or the address of a cluster
    print(ray.cluster_resources()["CPU"], "cores")
else:
    print("the rest needs Ray: pip install 'ray[tune]'")

# %% [markdown]
# **Configuration**: what flags would say, where a value may be left open.

# %%
if RAY:
    configuration = settings | {
        "evaluations": 4,
        "checkpoint_seconds": 0,
        "learning_rate": tune.grid_search([1e-3, 1e-4]),
    }

# %% [markdown]
# **Experiments**, with what ends a trial: a number of steps, or an evaluated return, whichever
# comes first.

# %%
if RAY:
    experiments = {
        "hopper": {
            "run": sweep.trainable("runs/tuned"),
            "config": configuration,
            "stop": {"steps": settings["total_steps"], "evaluation_return": 1000},
            "max_failures": 3,
            "resources_per_trial": {"cpu": 1},
            "storage_path": str(Path("runs/tune").absolute()),
        }
    }
    trials = tune.run_experiments(experiments, verbose=0)
    for trial in trials:
        reached = trial.last_result
        print(
            f"learning rate {trial.config['learning_rate']}: {trial.status.lower()} after "
            f"{reached['steps']} steps, return {reached['evaluation_return']:.0f}"
        )

# %% [markdown]
# **Visualise**: each trial is a run folder. The reports of all of them lie over each other, and a
# policy plays.

# %%
if RAY:
    folders = {x.config["learning_rate"]: f"runs/tuned/runs/{x.trial_id}" for x in trials}
    display(report.show(*folders.values()))

# %%
if RAY:
    display(gpusim.play(folders[1e-3], episodes=4))

# %% [markdown]
# **Restore**: a new run that begins with what a trial has learned, on other worlds if wanted.
# **Resume**: the same run goes on, exactly.

# %%
if RAY:
    more = settings | {"num_envs": 2 * settings["num_envs"]}
    print(gpusim.train(**more, restore=folders[1e-3], out="runs/restored", display=Quiet()))
    steps = 2 * settings["total_steps"]
    print(gpusim.train(resume=folders[1e-3], total_steps=steps, display=Quiet()))
    ray.shutdown()

# %% [markdown]
# From the command line, `python -m gpusim.sweep` does this with ASHA or population based training.

# %% [markdown]
# ## Ray: one run on several nodes
#
# `gpusim.launch` starts one process on each of so many nodes of a cluster, and starts them again if
# one is lost. A cluster begins with `ray start --head` on one machine and `ray start --address ...`
# on the others; here, two nodes on this one.

# %%
if RAY:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    command = [sys.executable, "-m", "gpusim.launch", "--address", cluster.address, "--nodes", "2"]
    command += [*flags(settings), "--devices", "1", "--out", "runs/launched"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(told(done.stdout))
    print("exit status", done.returncode)
    cluster.shutdown()
