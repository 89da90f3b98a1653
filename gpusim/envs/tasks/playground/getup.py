"""Go1 gets up from a fall.

After mujoco_playground/_src/locomotion/go1/getup.py, from the same random numbers.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.envs.mujoco_task import Before, Moment
from gpusim.envs.tasks.playground import randomized
from gpusim.envs.tasks.playground.go1 import set_gains
from gpusim.envs.tasks.playground.robot import (
    Noisy,
    Robot,
    above_zero,
    advanced,
    beyond,
    square,
    weighted,
)
from gpusim.envs.world import PRIVILEGED
from gpusim.physics import Some

HEIGHT = 0.275  # m, of the trunk of one that stands
DROP = 0.5  # m, from which it is dropped
DOWN = np.array([0.0, 0.0, -1.0])  # the direction of gravity for one that stands
FAST = 2 * math.pi  # rad/s, up to which joints may turn at no cost


class Memory(NamedTuple):
    """What is remembered from step to step."""

    key: jax.Array
    action: jax.Array  # (12,) the last one
    before: jax.Array  # (12,) the one before it
    seen: jax.Array  # the key of the noise in this step's observation


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Go1Getup(Robot):
    """Stand up, wherever the robot has been dropped (Playground's Go1).

    An action moves the joints' targets away from where the joints are. Observed: turning of the
    trunk (rad/s), direction of gravity, angles and speeds of the joints, the last action; the
    critic sees them without noise too, and accelerations, velocities, torques and the trunk's
    height.
    """

    timestep: ClassVar[float] = 0.004
    home: ClassVar[str] = "home"
    sites: ClassVar[tuple[str, ...]] = ("imu",)
    max_episode_steps: ClassVar[int] = 300

    xml_file: str = "locomotion/go1/xmls/scene_mjx_fullcollisions_flat_terrain.xml"
    """The scene: a file of Playground's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 5
    """Physics steps in a control step."""
    drop_from_height_prob: float = 0.6
    """How many episodes start with a fall; the others start in the keyframe's pose."""
    settle_time: float = 0.5
    """Before an episode begins, s."""
    prepared_starts: int = 1024
    """How many robots come to rest before training; episodes begin with one of them. 0: each begins
    with another, and its neighbours wait for that."""
    domain_randomization: bool = False
    """Whether each episode has frictions, masses and joints of its own, as Playground's."""
    energy_termination_threshold: float = math.inf
    """Mechanical power that ends an episode, W."""
    orientation_weight: float = 1.0
    """Weight of being upright. (All weights are of terms by the second.)"""
    torso_height_weight: float = 1.0
    """Weight of the trunk's height, up to that of one that stands."""
    posture_weight: float = 1.0
    """Weight of being in the keyframe's pose when upright."""
    stand_still_weight: float = 1.0
    """Weight of doing nothing when standing."""
    action_rate_weight: float = -0.001
    """Weight of first and second differences of actions, squared."""
    dof_pos_limits_weight: float = -0.1
    """Weight of joints outside of the middle 0.95 of their ranges, rad."""
    torques_weight: float = -1e-5
    """Weight of torques, N m."""
    dof_acc_weight: float = -2.5e-7
    """Weight of the joints' accelerations, squared."""
    dof_vel_weight: float = -0.1
    """Weight of the joints' speeds beyond 2π rad/s, squared."""

    def __post_init__(self):
        super().__post_init__()
        likely = 0 <= self.drop_from_height_prob <= 1
        self.require(likely, "drop_from_height_prob", "from 0 to 1")
        self.require(0 <= self.settle_time < math.inf, "settle_time", "a time, s")

    def adapt(self, mj: mujoco.MjModel) -> None:
        """The joints' gains."""
        set_gains(mj)

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Dropped with any pose, or in the keyframe's; after it has come to rest, more or less."""
        key, of_drop, of_pose = jax.random.split(key, 3)
        key, of_speed = jax.random.split(key)
        dropped = jax.random.bernoulli(of_drop, self.drop_from_height_prob)
        fallen = self._anyhow(of_pose)
        qpos = jnp.where(dropped, fallen, jnp.asarray(self.init_qpos, fallen.dtype))
        speed = jax.random.uniform(of_speed, (6,), minval=-0.5, maxval=0.5)
        start = self.engine.init(self.model, qpos, jnp.zeros(self.model.nv).at[:6].set(speed))
        settling = int(self.settle_time / self.timestep)
        if settling:
            start, _ = self.engine.steps(self.model, start, qpos[7:], settling)
        return start.qpos, start.qvel

    def _anyhow(self, key: jax.Array) -> jax.Array:
        """qpos (nq,) in the air, turned anyhow, the joints anywhere in their ranges."""
        _, of_turn, of_joints = jax.random.split(key, 3)
        turn = jax.random.normal(of_turn, (4,))
        turn = turn / (jnp.sqrt(square(turn)) + 1e-6)
        low, high = jnp.asarray(self.model.mj.jnt_range[1:].T, turn.dtype)
        joints = jax.random.uniform(of_joints, (self.model.nu,), minval=low, maxval=high)
        place = jnp.array([0.0, 0.0, DROP], turn.dtype)
        return jnp.concatenate([place, turn, joints])

    def vary(self, key: jax.Array) -> Mapping[str, Some]:
        """Playground's domain randomisation, if it is asked for."""
        return randomized.of_go1(self.model, key) if self.domain_randomization else {}

    def first_memory(self, key: jax.Array, now: Moment) -> Memory:
        """Nothing done."""
        still = jnp.zeros(self.model.nu, now.state.qpos.dtype)
        return Memory(advanced(key, 4), still, still, key)

    def control(self, before: Before, action: jax.Array) -> jax.Array:
        """Targets away from where the joints are, rad."""
        return before.state.qpos[7:] + action * self.action_scale

    def remember(self, memory: Memory, now: Moment) -> Memory:
        """The last two actions."""
        return Memory(advanced(memory.key, 4), now.action, memory.action, memory.key)

    def observation(self, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """For the policy, with noise; for the critic, more and without."""
        gyro, gravity = now.sensor("gyro"), self.gravity(now, "imu")
        joints, speeds = now.state.qpos[7:], now.state.qvel[6:]
        noisy = self.blurred(
            memory.seen,
            {
                "gyro": Noisy(gyro, 0.2),
                "gravity": Noisy(gravity, 0.05),
                "joints": Noisy(joints, 0.03),
                "speeds": Noisy(speeds, 1.5),
            },
        )
        rest = jnp.asarray(self.pose_of_joints, joints.dtype)
        state = [noisy["gyro"], noisy["gravity"], noisy["joints"] - rest, noisy["speeds"]]
        state.append(memory.before)
        more = [gyro, now.sensor("accelerometer"), now.sensor("local_linvel")]
        more += [now.sensor("global_angvel"), joints, speeds, now.derived.actuator_force]
        more.append(self._height(now)[None])
        return {"state": jnp.concatenate(state), PRIVILEGED: jnp.concatenate(state + more)}

    def rewards(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Upright, high, in the pose and still; smoothly. Not below zero."""
        lean = square(self.gravity(now, "imu") - DOWN)
        height = jnp.minimum(self._height(now), HEIGHT)
        upright, high = lean < 0.01, HEIGHT - height < 0.005
        q, force, action = now.state.qpos[7:], now.derived.actuator_force, now.action
        rest = jnp.asarray(self.pose_of_joints, q.dtype)
        terms = {
            "orientation": lambda: jnp.exp(-2 * lean),
            "torso_height": lambda: jnp.exp(height) - 1,
            "posture": lambda: jnp.exp(-0.5 * square(q - rest)) * upright,
            "stand_still": lambda: jnp.exp(-0.5 * square(action)) * (upright & high),
            "action_rate": lambda: (
                square(action - past.action) + square(action - 2 * past.action + past.before)
            ),
            "torques": lambda: jnp.sqrt(square(force)) + jnp.sum(jnp.abs(force)),
            "dof_pos_limits": lambda: beyond(q, *self.middle_of_ranges()),
            "dof_acc": lambda: square(now.derived.qacc[6:]),
            "dof_vel": lambda: square(jnp.maximum(jnp.abs(now.state.qvel[6:]) - FAST, 0.0)),
        }
        return above_zero(weighted(self, terms, q.dtype))

    def terminal(self, memory: Memory, now: Moment) -> jax.Array:
        """Too much power, if that has a limit."""
        power = jnp.sum(jnp.abs(now.derived.actuator_force * now.state.qvel[6:]))
        return power > self.energy_termination_threshold

    def _height(self, now: Moment) -> jax.Array:
        return now.derived.site_xpos[self.model.mj.site("imu").id, 2]
