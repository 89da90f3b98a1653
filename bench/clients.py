"""Learning curves of other people's learners in our worlds: ``python -m bench.clients``.

Stable-Baselines3's PPO, through Gymnasium, and rsl_rl's, through its own interface, keep a pole up;
the return is the control steps that it stood. Draws docs/curve-clients.svg.
"""
# The clients are extras:
# pyright: reportMissingImports=false

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from bench import common, curves
from gpusim.report import charts

ENV = "inverted_pendulum"
LIMIT = 500  # control steps of an episode


@dataclasses.dataclass(frozen=True)
class Args:
    """Flags."""

    one_by_one: int = 12_000
    """Environment steps of Stable-Baselines3, whose worlds step one by one."""
    together: int = 60_000
    """Environment steps of rsl_rl, whose worlds step together."""
    seed: int = 0
    """Of both."""
    out: Path | None = None
    """JSON file; by default bench/results/clients.json. The plot goes to docs/."""


class Curve:
    """Mean return of the episodes that ended between two points."""

    def __init__(self, num: int):
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.returns: list[float] = []
        self._running, self._ended, self._made = np.zeros(num), [], 0
        self._begun = time.perf_counter()

    def step(self, rewards: np.ndarray, dones: np.ndarray) -> None:
        """One step of all worlds."""
        self._running += rewards
        self._ended += self._running[dones].tolist()
        self._running[dones] = 0.0
        self._made += len(rewards)

    def point(self) -> None:
        """One point of the curve, if an episode has ended."""
        if self._ended:
            self.steps.append(self._made)
            self.seconds.append(time.perf_counter() - self._begun)
            self.returns.append(float(np.mean(self._ended)))
        self._ended = []


def stable_baselines3(args: Args) -> Curve:
    """PPO on four worlds, each an environment of its own."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv

    curve = Curve(4)

    class Told(BaseCallback):
        def _on_step(self) -> bool:
            curve.step(self.locals["rewards"], self.locals["dones"])
            return True

        def _on_rollout_end(self) -> None:
            curve.point()

    name = f"gpusim.adapters.gymnasium:gpusim/{ENV}"
    make = lambda: gymnasium.make(name, max_episode_steps=LIMIT)
    envs = DummyVecEnv([make] * 4)
    ppo = PPO("MlpPolicy", envs, n_steps=256, batch_size=64, learning_rate=1e-3, seed=args.seed)
    ppo.learn(args.one_by_one, callback=Told())
    return curve


def rsl_rl(args: Args) -> Curve:
    """PPO on 64 worlds, stepped by one kernel."""
    import torch
    from rsl_rl.runners import OnPolicyRunner

    import gpusim
    from gpusim.adapters.torch import VecEnv

    torch.manual_seed(args.seed)
    curve, rows = Curve(64), 32

    class Told(VecEnv):
        def step(self, actions: Any) -> Any:
            found = super().step(actions)
            curve.step(found[1].numpy(), found[2].numpy())
            if curve._made % (64 * rows) == 0:
                curve.point()
            return found

    env = Told(gpusim.make(ENV), 64, max_episode_steps=LIMIT, seed=args.seed)
    network = {"class_name": "MLPModel", "hidden_dims": [64, 64], "activation": "tanh"}
    noise = {"class_name": "GaussianDistribution", "init_std": 0.5, "std_type": "scalar"}
    settings = {
        "num_steps_per_env": rows,
        "save_interval": 10**6,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "actor": {**network, "distribution_cfg": noise, "obs_normalization": True},
        "critic": {**network, "obs_normalization": True},
        "algorithm": {
            "class_name": "PPO",
            "num_learning_epochs": 5,
            "num_mini_batches": 4,
            "learning_rate": 1e-3,
            "schedule": "adaptive",
            "desired_kl": 0.01,
        },
    }
    runner = OnPolicyRunner(env, settings, device="cpu")
    runner.learn(-(-args.together // (64 * rows)))
    return curve


CLIENTS = {"Stable-Baselines3": stable_baselines3, "rsl_rl": rsl_rl}


def main(args: Args) -> None:
    """Train, write the numbers and the plot."""
    found = {name: learn(args) for name, learn in CLIENTS.items()}
    rows = [
        [name, f"{curve.returns[-1]:,.0f}", f"{curve.steps[-1]:,}", f"{curve.seconds[-1]:.0f} s"]
        for name, curve in found.items()
    ]
    common.show(f"{ENV}: return at the end", ("", "return", "steps", "wall"), rows)
    numbers = {
        name: {"steps": c.steps, "seconds": c.seconds, "returns": c.returns}
        for name, c in found.items()
    }
    result = {"env": ENV, "limit": LIMIT, "clients": numbers}
    common.write(args.out or common.RESULTS / "clients.json", result)
    lines = [charts.Curve(name, curve.steps, curve.returns) for name, curve in found.items()]
    figure = charts.chart(lines, title=ENV, x_label="environment steps")
    picture = curves.DOCS / "curve-clients.svg"
    picture.write_text(curves.standalone(figure), encoding="utf-8")
    print(f"drawn in {picture}")


if __name__ == "__main__":
    main(tyro.cli(Args))
