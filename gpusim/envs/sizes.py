"""How large our own worlds are, told without making one: what is seen is known only once physics is
traced, which takes seconds. A test compares every row with its world."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gpusim.envs.world import World


class Sizes(NamedTuple):
    """Of a world with its usual options."""

    observations: int  # numbers that policy and critic see together
    actions: int  # numbers in an action
    dt: float  # length of a control step, s
    choices: int = 0  # among which an action is one; 0: actions are numbers in [-1, 1]
    agents: int = 1  # that act in a world; the sizes are those of each

    @classmethod
    def of(cls, world: "World") -> "Sizes":
        """Those that a world has."""
        choices = getattr(world.action_space, "n", 0)
        each = world.observation_size, world.action_size
        return cls(*each, float(world.dt), choices, world.agents)

    def text(self) -> str:
        """27 observations, 8 actions, control step 0.05 s."""
        one_or_more = lambda number, what: f"{number} {what}{'s' * (number != 1)}"
        does = f"{self.choices} choices" if self.choices else one_or_more(self.actions, "action")
        who = f"{self.agents} agents of " if self.agents > 1 else ""
        return f"{who}{self.observations} observations, {does}, control step {self.dt:g} s"


SIZES: Mapping[str, Sizes] = {
    # robots (Brax's tasks)
    "ant": Sizes(27, 8, 0.05),
    "half_cheetah": Sizes(17, 6, 0.05),
    "hopper": Sizes(11, 3, 0.008),
    "humanoid": Sizes(244, 17, 0.015),
    "humanoidstandup": Sizes(244, 17, 0.015),
    "inverted_double_pendulum": Sizes(8, 1, 0.02),
    "inverted_pendulum": Sizes(4, 1, 0.04),
    "pusher": Sizes(23, 7, 0.05),
    "reacher": Sizes(11, 2, 0.02),
    "swimmer": Sizes(8, 2, 0.04),
    "walker2d": Sizes(17, 6, 0.008),
    # robots (Gymnasium's tasks)
    "Ant-v5": Sizes(105, 8, 0.05),
    "HalfCheetah-v5": Sizes(17, 6, 0.05),
    "Hopper-v5": Sizes(11, 3, 0.008),
    "Humanoid-v5": Sizes(348, 17, 0.015),
    "HumanoidStandup-v5": Sizes(348, 17, 0.015),
    "InvertedDoublePendulum-v5": Sizes(9, 1, 0.05),
    "InvertedPendulum-v5": Sizes(4, 1, 0.04),
    "Pusher-v5": Sizes(23, 7, 0.05),
    "Reacher-v5": Sizes(10, 2, 0.02),
    "Swimmer-v5": Sizes(8, 2, 0.04),
    "Walker2d-v5": Sizes(17, 6, 0.008),
    # robots (Roboschool's tasks)
    "humanoid_flagrun": Sizes(44, 17, 0.0165),
    "humanoid_flagrun_harder": Sizes(44, 17, 0.0165),
    "humanoid_flagrun_harder_rough": Sizes(74, 17, 0.0165),
    "humanoid_flagrun_rough": Sizes(74, 17, 0.0165),
    # robots on command (Playground's tasks)
    "G1JoystickFlatTerrain": Sizes(319, 29, 0.02),
    "Go1Getup": Sizes(133, 12, 0.02),
    "Go1JoystickFlatTerrain": Sizes(171, 12, 0.02),
    "Go1JoystickRoughTerrain": Sizes(171, 12, 0.02),
    "LeapCubeReorient": Sizes(185, 16, 0.05),
    "PandaPickCube": Sizes(66, 8, 0.02),
    # robots against each other
    "sumo": Sizes(12, 2, 0.05, agents=2),
    # seen in pictures, of which these numbers are what they are drawn of
    "cart_pole_pixels": Sizes(8, 1, 0.02, choices=2),
    "inverted_pendulum_pixels": Sizes(4, 1, 0.04),
    "side_scroller": Sizes(38, 1, 0.05, choices=7),
    # classic control (Gymnasium's tasks)
    "Acrobot-v1": Sizes(6, 1, 0.2, choices=3),
    "CartPole-v1": Sizes(4, 1, 0.02, choices=2),
    "MountainCar-v0": Sizes(2, 1, 1, choices=3),
    "MountainCarContinuous-v0": Sizes(2, 1, 1),
    "Pendulum-v1": Sizes(3, 1, 0.05),
    # traffic (Flow's benchmarks)
    "Accel": Sizes(44, 1, 0.1),
    "MultiAgentAccelPO": Sizes(6, 1, 0.1, agents=3),
    "MultiAgentMergePO": Sizes(5, 1, 1, agents=5),
    "MultiAgentWaveAttenuationPO": Sizes(3, 1, 0.1, agents=3),
    "MultiTrafficLightGridPO": Sizes(42, 1, 1, agents=9),
    "WaveAttenuation": Sizes(44, 1, 0.1),
    "WaveAttenuationPO": Sizes(3, 1, 0.1),
    "bottleneck0": Sizes(141, 20, 0.5),
    "bottleneck1": Sizes(141, 20, 0.5),
    "bottleneck2": Sizes(281, 40, 0.5),
    "figureeight0": Sizes(28, 1, 0.1),
    "figureeight1": Sizes(28, 7, 0.1),
    "figureeight2": Sizes(28, 14, 0.1),
    "grid0": Sizes(339, 9, 1),
    "grid1": Sizes(915, 25, 1),
    "merge0": Sizes(25, 5, 1),
    "merge1": Sizes(65, 13, 1),
    "merge2": Sizes(85, 17, 1),
}
