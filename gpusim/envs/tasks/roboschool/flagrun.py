"""Humanoids that run after flags, and one that is knocked over on the way.

After roboschool/gym_humanoid_flagrun.py, whose physics was Bullet's: same observations, rewards,
flags, poses and cubes; a body of our own. What that file does by accident is kept where it is seen:
feet are observed as they were a step ago, and a flag that moves pays nothing in that step.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import physics
from gpusim.envs.mujoco_task import Before, Moment, MujocoTask

HALF_LENGTH, HALF_WIDTH = 26.25, 12.5  # m, of the stadium
PATIENCE = 150  # steps until a flag moves that is not reached
STANDS = 0.8  # m, the torso's height above which a body is up
AT_LIMIT = 0.99  # of a joint's range, scaled to [-1, 1]
GROUNDED = 170  # steps on the ground that end an episode
OFTEN, AFTER = 30, 100  # steps between two cubes, and before the first
DISTANCE, SPEEDS = 4.0, (20.0, 30.0)  # m, m/s, of a cube that is thrown
ANKLES = ("right_ankle_y", "right_ankle_x", "left_ankle_y", "left_ankle_x")


class Memory(NamedTuple):
    """What is remembered from step to step."""

    key: jax.Array
    flag: jax.Array  # (2,) m
    left: jax.Array  # () steps until the flag moves
    moved: jax.Array  # () bool: did it move in this step?
    potential: jax.Array  # () whose change is the progress
    feet: jax.Array  # (2,) whether they touched the ground a step ago
    seen: jax.Array  # (2,) likewise, another step ago: what is observed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HumanoidFlagrun(MujocoTask):
    """Run to a flag, then to the next one, without falling.

    Observed: height of the torso, direction of the flag, velocity as the torso faces, roll and
    pitch; of each joint where it is in its range and its speed; feet on the ground.
    """

    name: ClassVar[str] = "humanoid_flagrun"
    gauges: ClassVar[Mapping[str, str]] = {"distance": "to the flag, m", "speed": "speed, m/s"}
    cube: ClassVar[bool] = False
    """Whether there is one to be thrown."""

    n_frames: int = 4
    """Physics steps in a control step of 0.0165 s."""
    ankles: bool = False
    """A body of 28 numbers instead of 24: four more motors in the ankles."""
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

    @functools.cached_property
    def model(self) -> physics.Model:
        """The physics model, with what the options ask for."""
        spec = mujoco.MjSpec.from_file(str(Path(__file__).parent / "models" / "humanoid.xml"))
        for name in () if self.ankles else ANKLES:
            spec.delete(spec.actuator(name))
            spec.delete(spec.joint(name))
        if not self.cube:
            spec.delete(spec.body("cube"))
        return self.engine.load(spec.compile())

    # ---- the body

    @functools.cached_property
    def _joints(self) -> slice:
        """Of qpos, the driven joints."""
        return slice(7, 7 + self.model.nu)

    @functools.cached_property
    def _parts(self) -> np.ndarray:
        """The bodies of the robot."""
        return np.arange(1, self.model.nbody - self.cube)

    def _where(self, now: Moment) -> jax.Array:
        """(3,) m: the mean of the bodies' places, at the torso's height."""
        mean = now.derived.xpos[self._parts].mean(0)
        return mean.at[2].set(now.state.qpos[2])

    def _stretch(self, now: Moment) -> jax.Array:
        """(nu,) where joints are, -1 and 1 the ends of their ranges."""
        ranges = self.model.mj.jnt_range[1 : 1 + self.model.nu]
        low, high = ranges.T.astype(now.state.qpos.dtype)
        return (2 * now.state.qpos[self._joints] - low - high) / (high - low)

    def _speeds(self, now: Moment) -> jax.Array:
        """(nu,) tenths of rad/s."""
        return 0.1 * now.state.qvel[6 : 6 + self.model.nu]

    def _standing(self, now: Moment) -> jax.Array:
        """(2,) whether feet touch the ground."""
        dtype = now.state.qpos.dtype
        touch = [now.touching(f"{side}_foot", "floor") for side in ("right", "left")]
        return jnp.stack(touch).astype(dtype)

    def _knocked(self, now: Moment) -> jax.Array:
        """() how many feet touch something else."""
        floor, contact = self.model.mj.geom("floor").id, now.derived.contact
        off = contact.touches & (contact.geom != floor).all(1)
        feet = [self.model.mj.geom(f"{side}_foot").id for side in ("right", "left")]
        hit = [(off & (contact.geom == foot).any(1)).any() for foot in feet]
        return jnp.stack(hit).sum().astype(now.state.qpos.dtype)

    # ---- where episodes start

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """On its feet, the joints and the direction not quite as they should be."""
        of_joints, of_yaw = jax.random.split(key)
        return self._posed(of_joints, of_yaw, jnp.asarray(1.4), jnp.zeros(()))

    def _posed(
        self, of_joints: jax.Array, of_yaw: jax.Array, height: jax.Array, pitch: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        joints = jax.random.uniform(of_joints, (self.model.nu,), minval=-0.1, maxval=0.1)
        yaw = jax.random.uniform(of_yaw, (), minval=-math.pi / 16, maxval=math.pi / 16)
        (cy, sy), (cp, sp) = ((jnp.cos(a / 2), jnp.sin(a / 2)) for a in (yaw, pitch))
        turn = jnp.stack([cy * cp, -sy * sp, cy * sp, sy * cp])  # the pitch, then the yaw
        rest = jnp.asarray(self.init_qpos, joints.dtype)[7 + self.model.nu :]
        place = jnp.stack([jnp.zeros(()), jnp.zeros(()), height])
        return jnp.concatenate([place, turn, joints, rest]), jnp.zeros(self.model.nv)

    # ---- flags

    def first_memory(self, key: jax.Array, now: Moment) -> Memory:
        """A flag; often one that is straight ahead."""
        key, of_choice, of_ahead, of_flag = jax.random.split(key, 4)
        dtype = now.state.qpos.dtype
        x = jax.random.uniform(of_ahead, (), dtype, HALF_LENGTH / 2, HALF_LENGTH)
        ahead = jnp.stack([x, jnp.zeros_like(x)])
        straight = jax.random.bernoulli(of_choice)
        flag = jnp.where(straight, ahead, self._anywhere(of_flag, dtype))
        none = jnp.zeros(2, dtype)
        return Memory(
            key=key,
            flag=flag,
            left=jnp.asarray(PATIENCE - 1, jnp.int32),
            moved=jnp.zeros((), bool),
            potential=self._progress(flag, now),
            feet=none,
            seen=none,
        )

    def remember(self, memory: Memory, now: Moment) -> Memory:
        """The flag, which moves when it is reached or not reached for long."""
        key, of_flag = jax.random.split(memory.key)
        left = memory.left - 1
        move = (self._distance(memory.flag, now) < 1) | (left <= 0)
        flag = jnp.where(move, self._anywhere(of_flag, memory.flag.dtype), memory.flag)
        return Memory(
            key=key,
            flag=flag,
            left=jnp.where(move, PATIENCE, left),
            moved=move,
            potential=self._progress(flag, now),
            feet=self._standing(now),
            seen=memory.feet,
        )

    def _anywhere(self, key: jax.Array, dtype) -> jax.Array:
        """(2,) m: in the inner part of the stadium."""
        half = jnp.asarray([HALF_LENGTH / 2, HALF_WIDTH / 2], dtype)
        return jax.random.uniform(key, (2,), dtype, -half, half)

    def _distance(self, flag: jax.Array, now: Moment) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(flag - self._where(now)[:2])))

    def _progress(self, flag: jax.Array, now: Moment) -> jax.Array:
        """() grows by the speed towards the flag, m/s, in each step."""
        return -self._distance(flag, now) / self.dt

    # ---- what is seen and rewarded

    def observation(self, memory: Memory, now: Moment) -> jax.Array:
        """(10 + 2 joints,) see the class; each number between -5 and 5."""
        roll, pitch, yaw = _angles(now.state.qpos[3:7])
        x, y, height = self._where(now)
        turn = jnp.arctan2(memory.flag[1] - y, memory.flag[0] - x) - yaw
        c, s = jnp.cos(yaw), jnp.sin(yaw)
        vx, vy, vz = now.state.qvel[:3]
        body = [height - STANDS, jnp.sin(turn), jnp.cos(turn)]
        body += [0.3 * (c * vx + s * vy), 0.3 * (c * vy - s * vx), 0.3 * vz, roll, pitch]
        joints = jnp.stack([self._stretch(now), self._speeds(now)], axis=1).ravel()
        return jnp.clip(jnp.concatenate([jnp.stack(body), joints, memory.seen]), -5, 5)

    def rewards(self, past: Any, memory: Any, now: Moment) -> dict[str, jax.Array]:
        """Progress and being up; minus power, joints at their limits, feet that hit something."""
        power = jnp.abs(now.ctrl * self._speeds(now)).mean()
        at_limit = jnp.sum(jnp.abs(self._stretch(now)) > AT_LIMIT)
        return {
            "alive": self._alive(memory, now),
            "progress": self._gain(past, memory),
            "electricity": -self._price(now) * power
            - self.stall_torque_cost * jnp.square(now.ctrl).mean(),
            "joints_at_limit": -self.joints_at_limit_cost * at_limit.astype(power.dtype),
            "feet_collision": -self.foot_collision_cost * self._knocked(now),
        }

    def _gain(self, past: Memory, memory: Memory) -> jax.Array:
        return jnp.where(memory.moved, 0.0, memory.potential - past.potential)

    def _alive(self, memory: Memory, now: Moment) -> jax.Array:
        return jnp.where(self.terminal(memory, now), -1.0, self.alive_bonus)

    def _price(self, now: Moment) -> jax.Array | float:
        """Of electricity."""
        return self.electricity_cost

    def measure(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Distance to the flag, m, and speed over ground, m/s."""
        speed = jnp.sqrt(jnp.sum(jnp.square(now.state.qvel[:2])))
        return {"distance": self._distance(memory.flag, now), "speed": speed}

    def terminal(self, memory: Memory, now: Moment) -> jax.Array:
        """Down."""
        return now.state.qpos[2] <= 0.78


class Fallen(NamedTuple):
    """What is remembered of getting up, besides."""

    run: Memory
    walks: jax.Array  # () bool: did the episode start on the feet? Then a fall ends it
    steps: jax.Array  # () since the start
    down: jax.Array  # () steps on the ground, less those since
    crawls: jax.Array  # () bool: is the body down?
    begun: jax.Array  # () progress when it fell
    ignored: jax.Array  # () progress made while it was down
    throw: jax.Array  # () bool: is a cube to be thrown in the next step?


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HumanoidFlagrunHarder(HumanoidFlagrun):
    """Get up, run to flags, and be hit by cubes.

    Episodes start standing, lying on the front or lying on the back. Observed and rewarded as in
    `humanoid_flagrun`; but being up pays by height, progress on the ground nothing, and cubes are
    not seen.
    """

    name: ClassVar[str] = "humanoid_flagrun_harder"
    cube: ClassVar[bool] = True

    starts: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """How often episodes start standing, on the front and on the back, relative to each other."""

    def __post_init__(self):
        super().__post_init__()
        likely = len(self.starts) == 3 and min(self.starts) >= 0
        possible = likely and 0 < sum(self.starts) < math.inf
        self.require(possible, "starts", "three numbers from 0 on, one of them positive")

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """In one of three poses."""
        of_joints, of_yaw, of_pose = jax.random.split(key, 3)
        chance = jnp.asarray(np.cumsum(self.starts)[:2] / np.sum(self.starts))
        pose = jnp.sum(jax.random.uniform(of_pose, (), chance.dtype) > chance)
        pick = lambda *of: jnp.asarray(of, chance.dtype)[pose]
        height = pick(1.4, 0.45, 0.22)
        return self._posed(of_joints, of_yaw, height, pick(0.0, math.pi / 2, 1.5 * math.pi - 0.15))

    def first_memory(self, key: jax.Array, now: Moment) -> Fallen:
        """A flag; and whether it is down."""
        run, none = super().first_memory(key, now), jnp.zeros((), now.state.qpos.dtype)
        count = jnp.zeros((), jnp.int32)
        walks = now.state.qpos[2] > 1.0
        memory = Fallen(run, walks, count, count, walks & False, none, none, walks & False)
        return self._crawling(memory, run.potential, now)

    def remember(self, memory: Fallen, now: Moment) -> Fallen:
        """The flag, the fall, and whether it is time for a cube."""
        run, low = super().remember(memory.run, now), self._low(now)
        fall = jnp.where(low & memory.walks, 10_000, 0)
        down = jnp.where(low, memory.down + fall + 1, jnp.maximum(memory.down - 1, 0))
        due = (memory.steps % OFTEN == 0) & (memory.steps > AFTER) & (memory.down == 0)
        counted = memory._replace(run=run, steps=memory.steps + 1, down=down, throw=due)
        return self._crawling(counted, run.potential, now)

    def _crawling(self, memory: Fallen, progress: jax.Array, now: Moment) -> Fallen:
        """What is made of progress: none while down; and 100 to 200 for being up."""
        low = self._low(now)
        begun = jnp.where(memory.crawls, memory.begun, progress - memory.ignored)
        ignored = jnp.where(low, progress - begun, memory.ignored)
        useful = jnp.where(low, begun, progress - ignored)
        potential = useful + 100 * self._leak(now)
        return memory._replace(
            run=memory.run._replace(potential=potential), crawls=low, begun=begun, ignored=ignored
        )

    def _low(self, now: Moment) -> jax.Array:
        return now.state.qpos[2] < STANDS

    def _leak(self, now: Moment) -> jax.Array:
        """() 0.5 to 2, by the height of torso and pelvis."""
        pelvis = now.derived.xpos[self.model.mj.body("pelvis").id, 2]
        return 0.5 + 1.5 * jnp.clip(0.7 * now.state.qpos[2] + 0.3 * pelvis, 0, 0.7) / 0.7

    def disturb(self, before: Before) -> physics.State:
        """A cube flies to where the body will be."""
        state, memory = before.state, before.memory
        angle_of, speed_of, error_of = jax.random.split(jax.random.fold_in(memory.run.key, 1), 3)
        dtype = state.qpos.dtype
        angle = jax.random.uniform(angle_of, (), dtype, -3.14, 3.14)
        speed = jax.random.uniform(speed_of, (), dtype, *SPEEDS)
        aim = state.qpos[:3] + state.qvel[:3] * (DISTANCE / speed)
        up = jnp.asarray(1.0, dtype)
        start = aim + jnp.stack([DISTANCE * jnp.cos(angle), DISTANCE * jnp.sin(angle), up])
        way = aim - start
        velocity = way * (speed / jnp.sqrt(jnp.sum(jnp.square(way))))
        velocity = velocity + jax.random.uniform(error_of, (3,), dtype, -1, 1)
        cube = jnp.concatenate([start, jnp.asarray([1, 0, 0, 0], dtype)])
        motion = jnp.concatenate([velocity, jnp.zeros(3, dtype)])
        thrown = lambda x, new: jnp.where(memory.throw, x.at[-new.shape[0] :].set(new), x)
        return state._replace(qpos=thrown(state.qpos, cube), qvel=thrown(state.qvel, motion))

    def observation(self, memory: Fallen, now: Moment) -> jax.Array:
        """(10 + 2 joints,) as in `humanoid_flagrun`."""
        return super().observation(memory.run, now)

    def _gain(self, past: Fallen, memory: Fallen) -> jax.Array:
        return super()._gain(past.run, memory.run)

    def _alive(self, memory: Fallen, now: Moment) -> jax.Array:
        return jnp.where(self.terminal(memory, now), -1.0, self._leak(now))

    def _price(self, now: Moment) -> jax.Array:
        return jnp.where(self._low(now), 0.4, 1.0) * self.electricity_cost

    def measure(self, past: Fallen, memory: Fallen, now: Moment) -> dict[str, jax.Array]:
        """Distance to the flag, m, and speed over ground, m/s."""
        return super().measure(past.run, memory.run, now)

    def terminal(self, memory: Fallen, now: Moment) -> jax.Array:
        """Down for too long, or down at all when it could stand."""
        return memory.down >= GROUNDED


def _angles(quat: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Roll, pitch and yaw, rad, of a unit quaternion."""
    w, x, y, z = quat / jnp.sqrt(jnp.sum(jnp.square(quat)))
    roll = jnp.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = jnp.arcsin(jnp.clip(2 * (w * y - z * x), -1, 1))
    yaw = jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, pitch, yaw
