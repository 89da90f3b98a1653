"""Proximal policy optimisation. Its configuration is there at once; the learner starts JAX."""

from typing import TYPE_CHECKING, Any

from gpusim.agents.ppo.config import PPOConfig
from gpusim.agents.ppo.config import PPOConfig as Config

if TYPE_CHECKING:
    from gpusim.agents.ppo.learner import PPO
    from gpusim.agents.ppo.learner import PPO as Learner

__all__ = ["PPO", "Config", "Learner", "PPOConfig"]


def __getattr__(name: str) -> Any:
    """The learner, imported on first use (PEP 562)."""
    if name in ("PPO", "Learner"):
        from gpusim.agents.ppo.learner import PPO

        return PPO
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
