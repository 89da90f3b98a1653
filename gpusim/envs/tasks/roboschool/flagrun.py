"""Humanoids that run after flags.

After roboschool/gym_humanoid_flagrun.py, whose physics was Bullet's: same observations, rewards and
flags; a body of our own. What that file does by accident is kept where it is seen: feet are
observed as they were a step ago, and a flag that moves pays nothing in that step.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim.envs.mujoco_task import Moment
from gpusim.envs.tasks.roboschool.humanoid import Body, Humanoids, angles
from gpusim.physics.mirror import Signed, joined, rows

HALF_LENGTH, HALF_WIDTH = 26.25, 12.5  # m, of the stadium
PATIENCE = 150  # steps until a flag moves that is not reached
STANDS = 0.8  # m, the torso's height above which a body is up
FALLS = 0.78  # m, the one at which it is down
AT_LIMIT = 0.99  # of a joint's range, scaled to [-1, 1]


class Memory(NamedTuple):
    """What is remembered of a robot from step to step."""

    key: jax.Array
    flag: jax.Array  # (2,) m
    left: jax.Array  # () steps until the flag moves
    moved: jax.Array  # () bool: did it move in this step?
    potential: jax.Array  # () whose change is the progress
    feet: jax.Array  # (2,) whether they touched the ground a step ago
    seen: jax.Array  # (2,) likewise, another step ago: what is observed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HumanoidFlagrun(Humanoids):
    """Run to a flag, then to the next one, without falling.

    Observed: height of the torso, direction of the flag, velocity as the torso faces, roll and
    pitch; of each joint where it is in its range and its speed; feet on the ground.
    """

    name: ClassVar[str] = "humanoid_flagrun"
    gauges: ClassVar[Mapping[str, str]] = {"distance": "to the flag, m", "speed": "speed, m/s"}

    alive_bonus: float = 2.0
    """Reward of a step that ends above 0.78 m."""
    electricity_cost: float = 4.25
    """Cost of the motors' mean power, as controls times a tenth of the joints' speeds."""
    stall_torque_cost: float = 0.425
    """Cost of the mean squared control."""
    joints_at_limit_cost: float = 0.2
    """Cost of each joint at the end of its range."""
    foot_collision_cost: float = 1.0
    """Cost of each foot that touches anything but the ground."""

    # ---- the world: what follows, of each robot

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Every robot on its feet."""
        stand = lambda key, place: self.laid(key, place, jnp.asarray(1.4), jnp.zeros(()))
        qpos = self.of_each(stand)(self.keys(key), self.places(key))
        return self.joined(qpos), jnp.zeros(self.model.nv)

    def first_memory(self, key: jax.Array, now: Moment) -> Any:
        """What robots remember at a start."""
        return self.of_each(self.begun)(self.keys(key), self.bodies(now))

    def remember(self, memory: Any, now: Moment) -> Any:
        """What robots remember after a step."""
        return self.of_each(self.recalled)(memory, self.bodies(now))

    def observation(self, memory: Any, now: Moment) -> jax.Array:
        """(10 + 2 joints,) of each robot, see the class; each number between -5 and 5."""
        return self.of_each(self.seen)(memory, self.bodies(now))

    def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        """Progress and being up; minus power, joints at their limits, feet that hit something."""
        return self.of_each(self.earned)(past, memory, self.bodies(now))

    def measure(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        """Distance to the flag, m, and speed over ground, m/s: of robots the mean."""
        found = self.of_each(self.gauged)(memory, self.bodies(now))
        return {name: x.mean() for name, x in found.items()}

    def terminal(self, memory: Any, now: Moment) -> jax.Array:
        """One is down."""
        return self.of_each(self.down)(memory, self.bodies(now)).any()

    # ---- flags

    def begun(self, key: jax.Array, body: Body) -> Any:
        """A flag; often one that is straight ahead."""
        key, of_choice, of_ahead, of_flag = jax.random.split(key, 4)
        dtype = body.qpos.dtype
        x = jax.random.uniform(of_ahead, (), dtype, HALF_LENGTH / 2, HALF_LENGTH)
        straight = jax.random.bernoulli(of_choice)
        ahead = jnp.stack([x, body.qpos[1]])
        flag = jnp.where(straight, ahead, self._anywhere(of_flag, dtype))
        none = jnp.zeros(2, dtype)
        return Memory(
            key=key,
            flag=flag,
            left=jnp.asarray(PATIENCE - 1, jnp.int32),
            moved=jnp.zeros((), bool),
            potential=self._progress(flag, body),
            feet=none,
            seen=none,
        )

    def recalled(self, memory: Any, body: Body) -> Any:
        """The flag, which moves when it is reached or not reached for long."""
        key, of_flag = jax.random.split(memory.key)
        left = memory.left - 1
        move = (self._distance(memory.flag, body) < 1) | (left <= 0)
        flag = jnp.where(move, self._anywhere(of_flag, memory.flag.dtype), memory.flag)
        return Memory(
            key=key,
            flag=flag,
            left=jnp.where(move, PATIENCE, left),
            moved=move,
            potential=self._progress(flag, body),
            feet=body.feet,
            seen=memory.feet,
        )

    def _anywhere(self, key: jax.Array, dtype) -> jax.Array:
        """(2,) m: in the inner part of the stadium."""
        half = jnp.asarray([HALF_LENGTH / 2, HALF_WIDTH / 2], dtype)
        return jax.random.uniform(key, (2,), dtype, -half, half)

    def _distance(self, flag: jax.Array, body: Body) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(flag - body.where)))

    def _progress(self, flag: jax.Array, body: Body) -> jax.Array:
        """() grows by the speed towards the flag, m/s, in each step."""
        return -self._distance(flag, body) / self.dt

    # ---- what is seen and rewarded

    def seen(self, memory: Any, body: Body) -> jax.Array:
        """(10 + 2 joints,) see the class."""
        roll, pitch, yaw = angles(body.qpos[3:7])
        x, y = body.where
        turn = jnp.arctan2(memory.flag[1] - y, memory.flag[0] - x) - yaw
        c, s = jnp.cos(yaw), jnp.sin(yaw)
        vx, vy, vz = body.qvel[:3]
        torso = [body.height - STANDS, jnp.sin(turn), jnp.cos(turn)]
        torso += [0.3 * (c * vx + s * vy), 0.3 * (c * vy - s * vx), 0.3 * vz, roll, pitch]
        joints = jnp.stack([self._stretch(body), self._speeds(body)], axis=1).ravel()
        return jnp.clip(jnp.concatenate([jnp.stack(torso), joints, memory.seen]), -5, 5)

    def image(self) -> Signed:
        """Of one robot."""
        torso = [1, -1, 1, 1, -1, 1, -1, 1]  # what points or leans to the side
        joints = self.mirror.qpos.part(7, self.joints)
        each = rows(joints.index, [1, 1])
        return joined(torso, Signed(each.index, np.repeat(joints.sign, 2)), rows([1, 0], [1]))

    def earned(self, past: Any, memory: Any, body: Body) -> dict[str, jax.Array]:
        """The terms () of the reward."""
        power = jnp.abs(body.ctrl * self._speeds(body)).mean()
        at_limit = jnp.sum(jnp.abs(self._stretch(body)) > AT_LIMIT)
        return {
            "alive": jnp.where(self.down(memory, body), -1.0, self.up(body)),
            "progress": self.gain(past, memory),
            "electricity": -self.price(body) * power
            - self.stall_torque_cost * jnp.square(body.ctrl).mean(),
            "joints_at_limit": -self.joints_at_limit_cost * at_limit.astype(power.dtype),
            "feet_collision": -self.foot_collision_cost * body.knocked,
        }

    def gain(self, past: Any, memory: Any) -> jax.Array:
        """() progress made."""
        return jnp.where(memory.moved, 0.0, memory.potential - past.potential)

    def up(self, body: Body) -> jax.Array | float:
        """Reward of not being down."""
        return self.alive_bonus

    def price(self, body: Body) -> jax.Array | float:
        """Of electricity."""
        return self.electricity_cost

    def gauged(self, memory: Any, body: Body) -> dict[str, jax.Array]:
        """() each: see `measure`."""
        speed = jnp.sqrt(jnp.sum(jnp.square(body.qvel[:2])))
        return {"distance": self._distance(memory.flag, body), "speed": speed}

    def down(self, memory: Any, body: Body) -> jax.Array:
        """() bool: is that the end?"""
        return body.height <= FALLS

    def _stretch(self, body: Body) -> jax.Array:
        """(joints,) where joints are, -1 and 1 the ends of their ranges."""
        low, high = self.model.mj.jnt_range[1 : 1 + self.joints].T.astype(body.qpos.dtype)
        return (2 * body.qpos[7 : 7 + self.joints] - low - high) / (high - low)

    def _speeds(self, body: Body) -> jax.Array:
        """(joints,) tenths of rad/s."""
        return 0.1 * body.qvel[6 : 6 + self.joints]
