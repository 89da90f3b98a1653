"""Go1: a quadruped with 12 joints, which walks on command.

After mujoco_playground/_src/locomotion/go1/joystick.py, from the same random numbers.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim.envs.mujoco_task import Before, Moment
from gpusim.envs.tasks.playground import randomized
from gpusim.envs.tasks.playground.joystick import Feet, Joystick, Steps, moving
from gpusim.envs.tasks.playground.pushes import Kicks, in_steps
from gpusim.envs.tasks.playground.robot import above_zero, advanced, beyond, square, weighted
from gpusim.envs.world import PRIVILEGED
from gpusim.physics import Some
from gpusim.physics import State as Physics
from gpusim.physics.mirror import AXIAL, POLAR, Signed, joined, rows

STIFFNESS, DAMPING = 35.0, 0.5  # N m/rad, N m s/rad of the joints
AMPLITUDE = (1.5, 0.8, 1.2)  # of commands: m/s forwards, m/s to the left, rad/s
WANTED = (0.9, 0.25, 0.5)  # how likely a part of a new command is not zero
SECONDS = 5.0  # between two commands, on the average
POSE_WEIGHTS = np.array([1.0, 1.0, 0.1] * 4)


def set_gains(mj: mujoco.MjModel) -> None:
    """What Playground drives the joints with, whatever the file says."""
    mj.dof_damping[6:] = DAMPING
    mj.actuator_gainprm[:, 0], mj.actuator_biasprm[:, 1] = STIFFNESS, -STIFFNESS


class Memory(NamedTuple):
    """What is remembered from step to step."""

    key: jax.Array
    command: jax.Array  # (3,)
    until: jax.Array  # () steps until the next one
    action: jax.Array  # (12,) the last one
    feet: Feet
    seen: "Seen"
    kicks: Any = ()  # Kicks, where there are any


class Seen(NamedTuple):
    """What the observation of a step is of, as it was before the step's bookkeeping."""

    key: jax.Array
    command: jax.Array
    action: jax.Array
    contact: jax.Array  # (4,)
    air_time: jax.Array  # (4,) s, the step's own included
    force: Any = ()  # (3,) N on the trunk, where that is pushed now and then


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Go1JoystickFlatTerrain(Joystick):
    """Walk on flat ground as a joystick says, anew about every 5 s (Playground's Go1).

    Observed: velocity (m/s) and turning (rad/s) of the trunk, direction of gravity, angles and
    speeds of the joints, the last action, the command; the critic sees them without noise too, and
    accelerations, torques and feet.
    """

    timestep: ClassVar[float] = 0.004
    home: ClassVar[str] = "home"
    feet: ClassVar[tuple[str, ...]] = ("FR", "FL", "RR", "RL")
    imu: ClassVar[str] = "imu"
    sites: ClassVar[tuple[str, ...]] = (*feet, imu)
    commands: ClassVar[Mapping[str, tuple[float, float]]] = {
        f"{name}, {unit}": (-most, most)
        for (name, unit), most in zip(
            [("forwards", "m/s"), ("to the left", "m/s"), ("turning left", "rad/s")],
            AMPLITUDE,
            strict=True,
        )
    }

    xml_file: str = "locomotion/go1/xmls/scene_mjx_feetonly_flat_terrain.xml"
    """The scene: a file of Playground's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 5
    """Physics steps in a control step."""
    pushes: bool = False
    """Whether the robot is pushed, every 1 to 3 s, anew in each episode."""
    domain_randomization: bool = False
    """Whether each episode has frictions, masses and joints of its own, as Playground's."""
    max_foot_height: float = 0.1
    """How high feet are to be lifted, m."""
    tracking_lin_vel_weight: float = 1.0
    """Weight of obeying the command's velocity. (All weights are of terms by the second.)"""
    tracking_ang_vel_weight: float = 0.5
    """Weight of obeying how it is to turn."""
    lin_vel_z_weight: float = -0.5
    """Weight of the trunk's vertical speed, squared."""
    ang_vel_xy_weight: float = -0.05
    """Weight of the trunk's rolling and pitching, squared."""
    orientation_weight: float = -5.0
    """Weight of how far the trunk leans, squared."""
    dof_pos_limits_weight: float = -1.0
    """Weight of joints beyond 0.95 of their ranges' ends, rad."""
    pose_weight: float = 0.5
    """Weight of being near the keyframe's pose."""
    termination_weight: float = -1.0
    """Weight of falling."""
    stand_still_weight: float = -1.0
    """Weight of being away from the pose when told to stand, rad."""
    torques_weight: float = -0.0002
    """Weight of torques, N m."""
    action_rate_weight: float = -0.01
    """Weight of how far an action is from the last one, squared."""
    energy_weight: float = -0.001
    """Weight of mechanical power, W."""
    feet_clearance_weight: float = -2.0
    """Weight of moving feet that are not at their height."""
    feet_height_weight: float = -0.2
    """Weight of steps that missed the height."""
    feet_slip_weight: float = -0.1
    """Weight of feet that slide, (m/s)²."""
    feet_air_time_weight: float = 0.1
    """Weight of time in the air beyond 0.1 s, of feet that come down."""

    def adapt(self, mj: mujoco.MjModel) -> None:
        """The joints' gains."""
        set_gains(mj)

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The keyframe, somewhere, turned and moving."""
        qpos, qvel, _ = self.spread(key)
        return qpos, qvel

    def vary(self, key: jax.Array) -> Mapping[str, Some]:
        """Playground's domain randomisation, if it is asked for."""
        return randomized.of_go1(self.model, key) if self.domain_randomization else {}

    def first_memory(self, key: jax.Array, now: Moment) -> Memory:
        """A first command; nothing done."""
        key, first, second = jax.random.split(key, 3)
        dtype = now.state.qpos.dtype
        amplitude = jnp.asarray(AMPLITUDE, dtype)
        command = jax.random.uniform(second, (3,), dtype, -amplitude, amplitude)
        feet, still = self.no_steps(now), jnp.zeros(self.model.nu, dtype)
        kicks, force = (), ()
        if self.pushes:
            kicks = Kicks.drawn(jax.random.fold_in(key, 1), self.dt, dtype)
            force = jnp.zeros(3, dtype)
        seen = Seen(key, command, still, feet.contact, feet.air_time, force)
        return Memory(advanced(key, 5), command, self._wait(first, dtype), still, feet, seen, kicks)

    def disturb(self, before: Before) -> Physics:
        """Pushed, if it is time for that."""
        if not self.pushes:
            return before.state
        _, push = self._kicked(before.memory)
        force = jnp.zeros((self.model.nbody, 6), push.dtype).at[self._trunk, :3].set(push)
        return before.state._replace(xfrc_applied=force)

    def remember(self, memory: Memory, now: Moment) -> Memory:
        """Feet, the action, pushes, and perhaps a new command."""
        memory, force = self._kicked(memory) if self.pushes else (memory, ())
        steps = self.steps(memory.feet, now)
        key, first, second = jax.random.split(advanced(memory.key, 5), 3)
        until = memory.until - 1
        over = until <= 0
        return Memory(
            key=key,
            command=jnp.where(over, self._next(first, memory.command), memory.command),
            until=jnp.where(
                over | self._fallen(now), self._wait(second, now.state.qpos.dtype), until
            ),
            action=now.action,
            feet=steps.after(),
            seen=Seen(
                *(memory.key, memory.command, memory.action, memory.feet.contact),
                *(steps.air_time, force),
            ),
            kicks=memory.kicks,
        )

    def observation(self, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """For the policy, with noise; for the critic, more and without."""
        seen, true = memory.seen, self.readings(now)
        noisy = self.blurred(seen.key, true)
        rest = jnp.asarray(self.pose_of_joints, now.state.qpos.dtype)
        state = [
            *(noisy[name] for name in ("linvel", "gyro", "gravity")),
            *(noisy["joints"] - rest, noisy["speeds"], seen.action, seen.command),
        ]
        more = [
            true["gyro"].reading,
            self.reading(now, "accelerometer"),
            true["gravity"].reading,
            true["linvel"].reading,
            self.reading(now, "global_angvel"),
            *(self.away(now), now.state.qvel[6:], now.derived.actuator_force),
            seen.contact.astype(rest.dtype),
            *(now.sensor(f"{foot}_global_linvel") for foot in self.feet),
            seen.air_time,
            *((seen.force, memory.kicks.now[None]) if self.pushes else (jnp.zeros(4),)),
        ]
        return {"state": jnp.concatenate(state), PRIVILEGED: jnp.concatenate(state + more)}

    def image(self) -> dict[str, Signed]:
        """Of the same numbers."""
        mirror, feet = self.mirror, self.image_of_feet
        joints, speeds = mirror.qpos.part(7), mirror.qvel.part(6)
        state = [POLAR, AXIAL, POLAR, joints, speeds, mirror.ctrl, [1, -1, -1]]
        more = [AXIAL, POLAR, POLAR, POLAR, AXIAL, joints, speeds, mirror.ctrl]
        more += [rows(feet, [1]), rows(feet, POLAR), rows(feet, [1]), POLAR, [1]]
        return {"state": joined(*state), PRIVILEGED: joined(*state, *more)}

    def rewards(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Obeying, without falling, swaying, wasting power, dragging feet; not below zero."""
        command, steps = past.command, self.steps(past.feet, now)
        linear, angular = self.tracking_of(command, now)
        force, walking = now.derived.actuator_force, moving(command)
        low, high = (0.95 * self.model.mj.jnt_range[1:]).T
        terms = {
            "tracking_lin_vel": lambda: linear,
            "tracking_ang_vel": lambda: angular,
            "lin_vel_z": lambda: jnp.square(self.reading(now, "global_linvel")[2]),
            "ang_vel_xy": lambda: square(self.reading(now, "global_angvel")[:2]),
            "orientation": lambda: square(self.reading(now, "upvector")[:2]),
            "stand_still": lambda: jnp.sum(jnp.abs(self.away(now))) * ~walking,
            "termination": lambda: self._fallen(now),
            "pose": lambda: jnp.exp(-jnp.sum(jnp.square(self.away(now)) * POSE_WEIGHTS)),
            "torques": lambda: jnp.sqrt(square(force)) + jnp.sum(jnp.abs(force)),
            "action_rate": lambda: square(now.action - past.action),
            "energy": lambda: jnp.sum(jnp.abs(now.state.qvel[6:] * force)),
            "feet_slip": lambda: self._slip(steps) * walking,
            "feet_clearance": lambda: self.clearance(steps),
            "feet_height": lambda: self.lifted(steps) * walking,
            "feet_air_time": lambda: jnp.sum((steps.air_time - 0.1) * steps.first) * walking,
            "dof_pos_limits": lambda: beyond(now.state.qpos[7:], low, high),
        }
        return above_zero(weighted(self, terms, now.state.qpos.dtype))

    def terminal(self, memory: Memory, now: Moment) -> jax.Array:
        """Upside down."""
        return self._fallen(now)

    def obeying(self, memory: Memory, command: jax.Array) -> Memory:
        """Told, and no other command for a long time."""
        return memory._replace(command=command, until=jnp.full_like(memory.until, 10**6))

    @property
    def _trunk(self) -> int:
        return int(self.model.mj.jnt_bodyid[0])

    def _kicked(self, memory: Memory) -> tuple[Memory, jax.Array]:
        """The memory after a step, as to pushes, and the force (3,) on the trunk in it."""
        mass = float(self.model.mj.body_subtreemass[self._trunk])
        kicks, key, force = memory.kicks.step(memory.key, mass, self.dt)
        return memory._replace(key=key, kicks=kicks), force

    def _fallen(self, now: Moment) -> jax.Array:
        return self.reading(now, "upvector")[2] < 0

    def _slip(self, steps: Steps) -> jax.Array:
        return jnp.sum(jnp.sum(jnp.square(steps.speed[:, :2]), axis=1) * steps.contact)

    def _wait(self, key: jax.Array, dtype: Any) -> jax.Array:
        """() steps until the next command."""
        return in_steps(jax.random.exponential(key, dtype=dtype) * SECONDS, self.dt)

    def _next(self, key: jax.Array, command: jax.Array) -> jax.Array:
        """(3,) a command after another one: each part of it stays, changes, or is 0."""
        _, of_new, of_change, of_zero = jax.random.split(key, 4)
        amplitude = jnp.asarray(AMPLITUDE, command.dtype)
        new = jax.random.uniform(of_new, (3,), command.dtype, -amplitude, amplitude)
        wanted = jax.random.bernoulli(of_zero, jnp.asarray(WANTED, command.dtype), (3,))
        change = jax.random.bernoulli(of_change, 0.5, (3,))
        return command - change * (command - new * wanted)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Go1JoystickRoughTerrain(Go1JoystickFlatTerrain):
    """The same on rough ground."""

    xml_file: str = "locomotion/go1/xmls/scene_mjx_feetonly_rough_terrain.xml"
    """The scene: a file of Playground's, or a path that begins with `.`, `/` or `~`."""
