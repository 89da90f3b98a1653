"""A run's policy in its environment, read from a checkpoint: what plays, views and exports."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax

from gpusim import agents, config
from gpusim.agents.evaluate import Match
from gpusim.agents.learner import Policy
from gpusim.config import ConfigError, TrainConfig
from gpusim.envs.world import World
from gpusim.run import archive, blame, checkpoint, fault
from gpusim.run.archive import CheckpointError
from gpusim.suggest import nearest


class Player(NamedTuple):
    """A trained policy in its environment."""

    config: TrainConfig
    env: World
    policy: Policy
    path: Path  # the checkpoint it was read from
    run: Path  # the run folder
    read: Callable[[Path], Policy]  # the policy of another checkpoint of the run
    fault: Callable[[], fault.Step]  # the last step that led to what is not finite
    against: str = ""  # whose policy all agents but the first follow; "": the same

    @property
    def episode_length(self) -> int:
        """The time limit the policy was trained with, in control steps."""
        return self.config.episode_length or self.env.max_episode_steps

    @property
    def counted(self) -> slice:
        """Of which of a world's agents the return is told, as their mean."""
        return slice(1) if self.against else slice(None)

    @property
    def evaluation_key(self) -> jax.Array:
        """Draws the starts that the run's own evaluations used."""
        return jax.random.fold_in(jax.random.key(self.config.seed), 2**31 - 1)


def load(
    run: str | os.PathLike[str],
    which: str | int | Path | None = None,
    said: Sequence[tuple[str, Any]] = (),
    *,
    seed_index: int = 0,
    against: str | int | Path | None = None,
    joining: Player | None = None,
) -> Player:
    """The policy of a run folder, from its newest checkpoint or the one given by its steps, as
    "best" or as a file.

    seed_index: which of a run of several seeds, counted from 0. against: another run folder, or
    another checkpoint of this one, for all agents of a world but the first.
    said: flags that change the run's configuration, those of the environment above all. joining: in
    whose environment it is to act, instead of what that configuration names. Only the
    policy is read, so it does not matter on how many devices it was trained. Raises ConfigError or
    CheckpointError, with a message of one line.
    """
    run = Path(run)
    if not (run / "config.yaml").exists():
        beside = {path.parent.name: path.parent for path in run.parent.glob("*/config.yaml")}
        hint = nearest(run.name, beside).rstrip()
        raise ConfigError(f"{run} is not a run folder: it has no config.yaml; {hint}".rstrip("; "))
    settings = config.merge([run / "config.yaml"], said)
    env = settings.world() if joining is None else joining.env
    checkpoints = run / "checkpoints"
    path = (
        archive.newest(checkpoints, warnings.warn)[0]
        if which is None
        else archive.find(checkpoints, str(which))
    )
    # A learner on one device, for what it knows about the policy.
    kind = agents.find(agents.name_of(settings.learner)).Learner
    try:
        learner = kind(settings.learner, env, devices=1, num_seeds=settings.num_seeds)
    except ValueError as error:  # another environment than it learned in, say
        if blame.environment(error):
            raise  # its author is to see where
        raise ConfigError(f"the policy of {run} cannot act there: {error}") from error
    if not 0 <= seed_index < settings.num_seeds:
        raise ConfigError(f"seed {seed_index} of {run}: it has {settings.num_seeds}, from 0 on")
    template = learner.essentials(learner.blank())

    def read(path: Path) -> Policy:
        state = checkpoint.load_part(path, template)
        try:
            chex.assert_tree_all_finite(state)
        except AssertionError:
            raise CheckpointError(f"checkpoint {path}: its policy is not finite") from None
        return learner.policy(learner.of_seed(state, seed_index))

    settings = dataclasses.replace(settings, seed=settings.seed + seed_index, num_seeds=1)
    of_it = functools.partial(fault.last, path, learner, seed_index)
    try:
        policy = read(path)
    except CheckpointError as error:
        was = config.merge([run / "config.yaml"]).env
        there = settings.env if joining is None else joining.config.env
        if was == there:
            raise
        told = f"the policy of {run} is for {was}, not {there}: {error}"
        raise ConfigError(told) from error
    player = Player(settings, env, policy, path, run, read, of_it)
    return player if against is None else _against(player, str(against))


def _against(player: Player, against: str) -> Player:
    """The player whose opponents follow the policy of another run, or checkpoint of this one."""
    if player.env.agents == 1:
        raise ConfigError(f"--against {against}: in {player.config.env} one agent is alone")
    if Path(against).is_dir():
        rival = load(against, joining=player)
    else:
        path = archive.find(player.run / "checkpoints", against)
        rival = player._replace(policy=player.read(path), path=path)
    match = Match(player.policy, rival.policy)
    return player._replace(policy=match, against=str(rival.path))
