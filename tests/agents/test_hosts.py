"""Two processes that find each other by jax.distributed are one run."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from probes import PointMass

from gpusim.agents.ppo import PPO, PPOConfig

ROOT = Path(__file__).parents[2]
CONFIG = PPOConfig(
    num_envs=16,
    unroll_length=4,
    num_minibatches=2,
    updates_per_call=2,
    policy_hidden=(8,),
    value_hidden=(8,),
)

PROCESS = """
import json, sys
import jax
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from test_hosts import CONFIG, outcome
print(json.dumps(outcome(None, sys.argv[3])))
"""


def outcome(devices, spmd):
    """Parameters after two calls, and the number of devices."""
    learner = PPO(CONFIG, PointMass(), devices=devices, spmd=spmd)
    state = learner.init(jax.random.key(0))
    for _ in range(2):
        state, _ = learner.train_step(state)
    return len(learner.devices), ravel_pytree(learner.policy(state).params)[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("spmd", ["pmap", "shard_map"])
def test_two_processes_of_two_devices_agree_with_one_device(spmd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    commands = [[sys.executable, "-c", PROCESS, address, str(rank), spmd] for rank in range(2)]
    path = f"{ROOT}:{Path(__file__).parent}"
    environment = {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "PATH": ""}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    said = [process.communicate(timeout=300)[0].splitlines() for process in processes]
    first, second = (json.loads(lines[-1]) for lines in said)
    devices, alone = outcome(1, spmd)
    assert (devices, first[0]) == (1, 4)
    assert first == second
    np.testing.assert_allclose(first[1], alone, rtol=1e-3, atol=1e-4)
