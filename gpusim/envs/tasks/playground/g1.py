"""G1: a humanoid with 29 joints, which walks on command and is pushed.

After mujoco_playground/_src/locomotion/g1/joystick.py, from the same random numbers.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim import physics
from gpusim.envs.mujoco_task import Before, Moment
from gpusim.envs.tasks.playground import randomized
from gpusim.envs.tasks.playground.joystick import Feet, Joystick, Steps, moving
from gpusim.envs.tasks.playground.robot import advanced, beyond, square, weighted
from gpusim.envs.world import PRIVILEGED
from gpusim.physics import Some
from gpusim.physics.mirror import AXIAL, POLAR, Signed, joined, rows

RANGES = ((-1.0, 1.0), (-0.5, 0.5), (-1.0, 1.0))  # of commands: m/s, m/s, rad/s
STANDING = 0.1  # how likely a command is to stand
LASTS = 500  # steps of a command
PUSHES = (0.1, 2.0)  # m/s that a push adds
INTERVAL = (5.0, 10.0)  # s between two pushes
UPRIGHT = np.array([0.073, 0.0, 1.0])  # the torso's vertical, as it is to be


class Memory(NamedTuple):
    """What is remembered from step to step."""

    key: jax.Array
    command: jax.Array  # (3,)
    age: jax.Array  # () steps since it was given
    action: jax.Array  # (29,) the last one
    feet: Feet
    phase: jax.Array  # (2,) rad, of the feet's gait, between -π and π
    advance: jax.Array  # () rad a step
    steps: jax.Array  # () since the start
    interval: jax.Array  # () steps between two pushes
    seen: "Seen"


class Seen(NamedTuple):
    """What the observation of a step is of, as it was before the step's bookkeeping."""

    key: jax.Array
    command: jax.Array
    action: jax.Array
    phase: jax.Array
    air_time: jax.Array  # (2,) s, the step's own included


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class G1JoystickFlatTerrain(Joystick):
    """Walk on flat ground as a joystick says, pushed now and then (Playground's G1).

    Observed: velocity (m/s) and turning (rad/s) of the pelvis, direction of gravity, the command,
    angles and speeds of the joints, the last action, the phase of the gait; the critic sees them
    without noise too, and accelerations, torques and feet.
    """

    timestep: ClassVar[float] = 0.002
    home: ClassVar[str] = "knees_bent"
    feet: ClassVar[tuple[str, ...]] = ("left_foot", "right_foot")
    imu: ClassVar[str] = "imu_in_pelvis"
    suffix: ClassVar[str] = "_pelvis"
    sites: ClassVar[tuple[str, ...]] = (*feet, imu)
    commands: ClassVar[Mapping[str, tuple[float, float]]] = dict(
        zip(("forwards, m/s", "to the left, m/s", "turning left, rad/s"), RANGES, strict=True)
    )

    xml_file: str = "locomotion/g1/xmls/scene_mjx_feetonly_flat_terrain.xml"
    """The scene: a file of Playground's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 10
    """Physics steps in a control step."""
    pushes: bool = True
    """Whether the robot is pushed."""
    domain_randomization: bool = False
    """Whether each episode has frictions, masses and joints of its own, as Playground's."""
    max_foot_height: float = 0.15
    """How high feet are to be lifted, m."""
    base_height_target: float = 0.5
    """Height at which `base_height` costs nothing, m."""
    max_contact_force: float = 500.0
    """Up to which a foot may press at no cost, N."""
    tracking_lin_vel_weight: float = 1.0
    """Weight of obeying the command's velocity. (All weights are of terms by the second.)"""
    tracking_ang_vel_weight: float = 0.75
    """Weight of obeying how it is to turn."""
    lin_vel_z_weight: float = 0.0
    """Weight of vertical speeds of pelvis and torso, squared."""
    ang_vel_xy_weight: float = -0.15
    """Weight of the torso's rolling and pitching, squared."""
    orientation_weight: float = -2.0
    """Weight of how far the torso leans, squared."""
    base_height_weight: float = 0.0
    """Weight of the pelvis not being at its height, squared."""
    torques_weight: float = 0.0
    """Weight of torques, N m."""
    action_rate_weight: float = 0.0
    """Weight of how far an action is from the last one, squared."""
    energy_weight: float = 0.0
    """Weight of mechanical power, W."""
    dof_acc_weight: float = 0.0
    """Weight of the joints' accelerations, squared."""
    feet_clearance_weight: float = 0.0
    """Weight of moving feet that are not at their height."""
    feet_air_time_weight: float = 2.0
    """Weight of time in the air between 0.2 and 0.5 s, of feet that come down."""
    feet_slip_weight: float = -0.25
    """Weight of the pelvis' speed, for each foot on the ground."""
    feet_height_weight: float = 0.0
    """Weight of steps that missed the height."""
    feet_phase_weight: float = 1.0
    """Weight of feet at the heights of their gait."""
    alive_weight: float = 0.0
    """Weight of every step."""
    stand_still_weight: float = -1.0
    """Weight of being away from the pose when told to stand, rad."""
    termination_weight: float = -100.0
    """Weight of falling, or of legs that touch."""
    collision_weight: float = -0.1
    """Weight of hands that touch thighs."""
    contact_force_weight: float = -0.01
    """Weight of feet that press harder than they may, N."""
    joint_deviation_knee_weight: float = -0.1
    """Weight of knees away from the pose, rad."""
    joint_deviation_hip_weight: float = -0.25
    """Weight of hips rolled or turned away from the pose, rad."""
    dof_pos_limits_weight: float = -1.0
    """Weight of joints outside of the middle 0.95 of their ranges, rad."""
    pose_weight: float = -0.1
    """Weight of joints away from the pose, squared."""

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The keyframe, somewhere, turned and moving, with other angles of the joints."""
        qpos, qvel, key = self.spread(key)
        factors = jax.random.uniform(key, (self.model.nu,), minval=0.5, maxval=1.5)
        return qpos.at[7:].multiply(factors), qvel

    def vary(self, key: jax.Array) -> Mapping[str, Some]:
        """Playground's domain randomisation, if it is asked for."""
        return randomized.of_g1(self.model, key) if self.domain_randomization else {}

    def first_memory(self, key: jax.Array, now: Moment) -> Memory:
        """A first command and a gait; nothing done."""
        key, of_gait, of_command, of_pushes = jax.random.split(key, 4)
        dtype = now.state.qpos.dtype
        frequency = jax.random.uniform(of_gait, (), dtype, 1.25, 1.5)
        seconds = jax.random.uniform(of_pushes, (), dtype, *INTERVAL)
        feet, still = self.no_steps(now), jnp.zeros(self.model.nu, dtype)
        command, phase = self._draw(of_command, dtype), jnp.array([0, math.pi], dtype)
        return Memory(
            key=advanced(key, 5),
            command=command,
            age=jnp.zeros((), jnp.int32),
            action=still,
            feet=feet,
            phase=phase,
            advance=2 * math.pi * self.dt * frequency,
            steps=jnp.zeros((), jnp.int32),
            interval=jnp.round(seconds / self.dt).astype(jnp.int32),
            seen=Seen(key, command, still, phase, feet.air_time),
        )

    def disturb(self, before: Before) -> physics.State:
        """A push, if it is time for one."""
        state, memory = before.state, before.memory
        if not self.pushes:
            return state
        _, of_angle, of_size = jax.random.split(memory.key, 3)
        dtype = state.qvel.dtype
        angle = jax.random.uniform(of_angle, (), dtype, maxval=2 * math.pi)
        due = (memory.steps + 1) % memory.interval == 0
        size = jax.random.uniform(of_size, (), dtype, *PUSHES) * due
        push = size * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return state._replace(qvel=state.qvel.at[:2].add(push))

    def remember(self, memory: Memory, now: Moment) -> Memory:
        """Feet, the action, the gait, and perhaps a new command."""
        steps = self.steps(memory.feet, now)
        seen = jax.random.split(memory.key, 3)[0]
        key, of_command = jax.random.split(advanced(seen, 5))
        over = memory.age + 1 > LASTS
        new = self._draw(of_command, memory.command.dtype)
        phase = memory.phase + memory.advance + math.pi
        return Memory(
            key=key,
            command=jnp.where(over, new, memory.command),
            age=jnp.where(over | self.terminal(memory, now), 0, memory.age + 1),
            action=now.action,
            feet=steps.after(),
            phase=jnp.fmod(phase, 2 * math.pi) - math.pi,
            advance=memory.advance,
            steps=memory.steps + 1,
            interval=memory.interval,
            seen=Seen(seen, memory.command, memory.action, memory.phase, steps.air_time),
        )

    def observation(self, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """For the policy, with noise; for the critic, more and without."""
        seen, true = memory.seen, self.readings(now)
        noisy = self.blurred(seen.key, true)
        rest = jnp.asarray(self.pose_of_joints, now.state.qpos.dtype)
        state = [
            *(noisy[name] for name in ("linvel", "gyro", "gravity")),
            *(seen.command, noisy["joints"] - rest, noisy["speeds"], seen.action),
            *(jnp.cos(seen.phase), jnp.sin(seen.phase)),
        ]
        more = [
            true["gyro"].reading,
            self.reading(now, "accelerometer"),
            true["gravity"].reading,
            true["linvel"].reading,
            self.reading(now, "global_angvel"),
            *(self.away(now), now.state.qvel[6:], now.state.qpos[2:3]),
            now.derived.actuator_force,
            self.on_ground(now).astype(rest.dtype),
            *(now.sensor(f"{foot}_global_linvel") for foot in self.feet),
            seen.air_time,
        ]
        return {"state": jnp.concatenate(state), PRIVILEGED: jnp.concatenate(state + more)}

    def image(self) -> dict[str, Signed]:
        """Of the same numbers. (The reward is not quite the same in a mirror: see `_hips`.)"""
        mirror, feet = self.mirror, self.image_of_feet
        joints, speeds = mirror.qpos.part(7), mirror.qvel.part(6)
        state = [POLAR, AXIAL, POLAR, [1, -1, -1], joints, speeds, mirror.ctrl]
        state += [rows(feet, [1]), rows(feet, [1])]
        more = [AXIAL, POLAR, POLAR, POLAR, AXIAL, joints, speeds, [1], mirror.ctrl]
        more += [rows(feet, [1]), rows(feet, POLAR), rows(feet, [1])]
        return {"state": joined(*state), PRIVILEGED: joined(*state, *more)}

    def rewards(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Obeying in the gait, without falling, leaning, bending needlessly."""
        command, steps = past.command, self.steps(past.feet, now)
        linear, angular = self.tracking_of(command, now)
        force, away = now.derived.actuator_force, self.away(now)
        torso = lambda name: now.sensor(f"{name}_torso")
        speed = self.reading(now, "global_linvel")
        terms = {
            "tracking_lin_vel": lambda: linear,
            "tracking_ang_vel": lambda: angular,
            "lin_vel_z": lambda: jnp.square(speed[2]) + jnp.square(torso("global_linvel")[2]),
            "ang_vel_xy": lambda: square(torso("global_angvel")[:2]),
            "orientation": lambda: square(torso("upvector") - UPRIGHT),
            "base_height": lambda: jnp.square(now.state.qpos[2] - self.base_height_target),
            "torques": lambda: jnp.sum(jnp.abs(force)),
            "action_rate": lambda: square(now.action - past.action),
            "energy": lambda: jnp.sum(jnp.abs(now.state.qvel[6:] * force)),
            "dof_acc": lambda: square(now.derived.qacc[6:]),
            "feet_slip": lambda: jnp.sqrt(square(speed[:2])) * jnp.sum(steps.contact),
            "feet_clearance": lambda: self.clearance(steps),
            "feet_height": lambda: self.lifted(steps),
            "feet_air_time": lambda: self._in_the_air(steps),
            "feet_phase": lambda: self._in_phase(past.phase, steps, command, now),
            "alive": lambda: 1.0,
            "termination": lambda: self.terminal(memory, now),
            "stand_still": lambda: jnp.sum(jnp.abs(away)) * ~moving(command),
            "collision": lambda: self._touch(now, "left_hand_left_thigh", "right_hand_right_thigh"),
            "contact_force": lambda: sum(
                jnp.maximum(jnp.abs(now.sensor(f"{foot}_force")[2]) - self.max_contact_force, 0.0)
                for foot in self.feet
            ),
            "joint_deviation_hip": lambda: self._hips(away, command),
            "joint_deviation_knee": lambda: jnp.sum(jnp.abs(away[self._joints("knee")])),
            "dof_pos_limits": lambda: beyond(now.state.qpos[7:], *self.middle_of_ranges()),
            "pose": lambda: square(away),
        }
        return weighted(self, terms, now.state.qpos.dtype)

    def terminal(self, memory: Memory, now: Moment) -> jax.Array:
        """Upside down, or legs that touch."""
        legs = ("right_foot_left_foot", "left_foot_right_shin", "right_foot_left_shin")
        return (now.sensor("upvector_torso")[2] < 0) | self._touch(now, *legs)

    def obeying(self, memory: Memory, command: jax.Array) -> Memory:
        """Told, and no other command for a long time."""
        return memory._replace(command=command, age=jnp.full_like(memory.age, -(10**6)))

    def _touch(self, now: Moment, *pairs: str) -> jax.Array:
        """() bool: do any of these touch?"""
        return jnp.stack([now.sensor(f"{pair}_found")[0] > 0 for pair in pairs]).any()

    def _draw(self, key: jax.Array, dtype) -> jax.Array:
        """(3,) a command."""
        *keys, of_standing = jax.random.split(key, 4)
        parts = [
            jax.random.uniform(k, (), dtype, low, high)
            for k, (low, high) in zip(keys, RANGES, strict=True)
        ]
        return jnp.where(jax.random.bernoulli(of_standing, STANDING), 0.0, jnp.stack(parts))

    def _joints(self, *names: str) -> np.ndarray:
        """Places among the driven joints, left ones first."""
        joint = lambda side, name: self.model.mj.joint(f"{side}_{name}_joint").qposadr[0] - 7
        return np.array([joint(side, name) for side in ("left", "right") for name in names])

    def _hips(self, away: jax.Array, command: jax.Array) -> jax.Array:
        """() rad, less while it is to go to the left.

        Playground means to leave out the roll then; but its weights (4,) meet angles (4, 1), so
        that each weighs on all of them. What it computes is what its policies learned from.
        """
        off = jnp.abs(away[self._joints("hip_roll", "hip_yaw")])
        return jnp.sum(off) * jnp.where(command[1] > 0.1, 2.0, 4.0)

    def _in_the_air(self, steps: Steps) -> jax.Array:
        return jnp.sum(jnp.minimum((steps.air_time - 0.2) * steps.first, 0.5 - 0.2))

    def _in_phase(
        self, phase: jax.Array, steps: Steps, command: jax.Array, now: Moment
    ) -> jax.Array:
        error = square(steps.height - gait_height(phase, self.max_foot_height))
        speed = self.reading(now, "global_linvel")[:2]
        turning = jnp.abs(self.reading(now, "global_angvel")[2]) > 0.1
        goes = moving(command) | (jnp.sqrt(square(speed)) > 0.1) | turning
        return jnp.exp(-error / 0.01) * goes


def gait_height(phase: jax.Array, top: float) -> jax.Array:
    """Heights of feet, m, at phases between -π and π: up to `top` at 0 and down again, at rest at
    all three."""
    x = (phase + math.pi) / (2 * math.pi)
    smooth = lambda t: t**3 + 3 * (t**2 * (1 - t))
    return top * jnp.where(x <= 0.5, smooth(2 * x), 1 - smooth(2 * x - 1))
