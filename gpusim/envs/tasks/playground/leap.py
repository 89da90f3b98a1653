"""LEAP: a hand of four fingers, which turns a cube in its palm.

After mujoco_playground/_src/manipulation/leap_hand/reorient.py, from the same random numbers.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from gpusim import physics
from gpusim.envs.mujoco_task import Before, Moment, MujocoTask
from gpusim.envs.tasks.playground import files, randomized
from gpusim.envs.tasks.playground.pushes import Nudges
from gpusim.envs.tasks.playground.robot import square, weighted
from gpusim.envs.world import PRIVILEGED, State, WorldError
from gpusim.physics import Some
from gpusim.physics.linalg import normalize, quat_conjugate, quat_mul

TIPS = ("th_tip", "if_tip", "mf_tip", "rf_tip")
SENSORS = (
    *("cube_position", "cube_orientation", "cube_linvel", "cube_angvel"),
    *("palm_position", "cube_goal_orientation"),
    *(f"{tip}_position" for tip in TIPS),
)
START = (0.1, 0.0, 0.05)  # m, where the cube is dropped, give or take
SPREAD = 0.01  # m, in each direction
JOINTS = 0.1  # rad, of the joints at a start
NOISE = {"joints": 0.05, "place": 0.02, "turn": 0.1}  # rad, m, of a quaternion
FALLEN = -0.05  # m, the height of a cube that has fallen
SPIN = 3.0, 2.0  # rad/s about each axis of a goal that was reached, give or take
SLOWER = 0.8  # times as fast in each step after that
LONGEST = 100  # steps that can be seen at once


class Memory(NamedTuple):
    """What is remembered from step to step."""

    key: jax.Array
    goal: jax.Array  # (4,) how the cube is to be turned, from the next step on
    spin: jax.Array  # (3,) rad/s, with which the goal turns, twice as fast
    ctrl: jax.Array  # (16,) rad: the joints' targets
    action: jax.Array  # (16,) the last one
    before: jax.Array  # (16,) the one before it
    behind: jax.Array  # (history_len 16,) rad: of joints and targets, as seen; the newest first
    off: jax.Array  # (history_len 3,) m: from the cube to the palm, likewise
    turned: jax.Array  # (history_len 6,) two rows of the rotation from the goal to the cube
    since: jax.Array  # () steps since the goal was reached
    reached: jax.Array  # () how often it was
    seen: jax.Array  # (16,) rad: the joints, as seen in this step
    nudges: Any = ()  # Nudges, where there are any


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LeapCubeReorient(MujocoTask):
    """Turn a cube in the palm as another one is turned, again and again (Playground's LEAP hand).

    An action moves the joints' targets. A goal that is reached turns on. Observed: angles of the
    joints, how far they are from their targets, where the cube is from the palm and how it is
    turned from the goal, all with noise, and the last action; the critic sees them without noise
    too, and speeds and finger tips. Playground's very first observation has zeros for all places.
    """

    derive_constants: ClassVar[bool] = False
    gauges: ClassVar[Mapping[str, str]] = {"success_count": "goals reached"}

    xml_file: str = "manipulation/leap_hand/xmls/scene_mjx_cube.xml"
    """The scene: a file of Playground's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 5
    """Physics steps in a control step."""
    action_scale: float = 0.5
    """How far an action of 1 moves a joint's target, rad."""
    ema_alpha: float = 1.0
    """How much of the way to its new place a target goes at once."""
    success_threshold: float = 0.1
    """How near the goal must be to be reached, rad."""
    history_len: int = 1
    """How many steps of joints and cube are seen."""
    noise_level: float = 1.0
    """Scale of all noise in what is seen; 0: none."""
    pushes: bool = False
    """Whether the cube is pushed, every 3 to 7.5 s, anew in each episode."""
    domain_randomization: bool = False
    """Whether each episode has frictions, masses and joints of its own, as Playground's."""
    random_ori_injection_prob: float = 0.0
    """How often the cube is seen anywhere."""
    orientation_weight: float = 5.0
    """Weight of being near the goal. (Weights are of terms by the second.)"""
    position_weight: float = 0.5
    """Weight of a cube near the palm."""
    termination_weight: float = -100.0
    """Weight of letting it fall."""
    hand_pose_weight: float = -0.5
    """Weight of joints away from the keyframe's pose, squared."""
    action_rate_weight: float = -0.001
    """Weight of first and second differences of actions, squared."""
    joint_vel_weight: float = 0.0
    """Weight of the joints' speeds by 4 rad/s, squared."""
    energy_weight: float = -1e-3
    """Weight of mechanical power, W."""
    success_reward: float = 100.0
    """For reaching the goal, once."""

    def __post_init__(self):
        super().__post_init__()
        files.scene(self.name, self.xml_file)  # a file that is not there is told at once
        whole = isinstance(self.history_len, int | np.integer)
        fits = whole and 1 <= self.history_len <= LONGEST
        self.require(fits, "history_len", f"a whole number from 1 to {LONGEST}")
        for option in ("ema_alpha", "random_ori_injection_prob"):
            self.require(0 <= getattr(self, option) <= 1, option, "from 0 to 1")
        for option in ("noise_level", "success_threshold"):
            self.require(getattr(self, option) >= 0, option, "a number from 0 on")

    @functools.cached_property
    def model(self) -> physics.Model:
        """The physics model. Raises WorldError for a scene without hand, cube and goal."""
        path = files.scene(self.name, self.xml_file)
        mj = files.read(self.name, path)
        try:
            mj.keyframe("home")
            for name in SENSORS:
                mj.sensor(name)
        except KeyError as error:
            raise WorldError(f"environment {self.name!r}: {path}: {error.args[0]}") from error
        if mj.nq != mj.nu + 7 or mj.nmocap != 1:
            raise WorldError(
                f"environment {self.name!r}: {path} is not of a motor for each joint of a hand, a "
                f"cube and a goal: {mj.nq} coordinates, {mj.nu} actuators, {mj.nmocap} mocap bodies"
            )
        mj.opt.timestep = 0.01
        return self.engine.load(mj)

    @functools.cached_property
    def _home(self):
        return self.model.mj.keyframe("home")

    @functools.cached_property
    def init_qpos(self) -> np.ndarray:
        """(23,) the keyframe's pose: sixteen joints, the cube."""
        return np.array(self._home.qpos)

    # ---- where episodes start

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The hand nearly in its pose; the cube above the palm, turned anyhow."""
        of_hand, of_place, of_turn = jax.random.split(key, 3)
        nu, dtype = self.model.nu, jnp.zeros(()).dtype
        low, high = self.model.mj.actuator_ctrlrange.T.astype(dtype)
        rest = jnp.asarray(self.init_qpos[:nu], dtype)
        hand = jnp.clip(rest + JOINTS * jax.random.normal(of_hand, (nu,)), low, high)
        shift = jax.random.uniform(of_place, (3,), minval=-SPREAD, maxval=SPREAD)
        place = jnp.asarray(START, dtype) + shift
        return jnp.concatenate([hand, place, anyhow(of_turn, dtype)]), jnp.zeros(self.model.nv)

    def mocap(self, key: jax.Array) -> physics.Mocap:
        """The goal in its place, turned anyhow."""
        goal = anyhow(key, jnp.zeros(()).dtype)
        return physics.Mocap(jnp.asarray(self._home.mpos).reshape(1, 3), goal[None])

    def rest(self, qpos: jax.Array) -> jax.Array:
        """The joints' targets at a start are where they are."""
        return qpos[: self.model.nu]

    def vary(self, key: jax.Array) -> Mapping[str, Some]:
        """Playground's domain randomisation, if it is asked for."""
        return randomized.of_leap(self.model, key) if self.domain_randomization else {}

    def first_memory(self, key: jax.Array, now: Moment) -> Memory:
        """Nothing done, nothing seen before."""
        assert now.state.mocap is not None
        dtype, nu, past = now.state.qpos.dtype, self.model.nu, self.history_len
        none = lambda size: jnp.zeros(size, dtype)
        count = jnp.zeros((), jnp.int32)
        blank = Memory(
            *(key, now.state.mocap.quat[0], none(3), now.ctrl, none(nu), none(nu)),
            *(none(past * nu), none(past * 3), none(past * 6), count, count, none(nu)),
            Nudges.drawn(jax.random.fold_in(key, 1), dtype) if self.pushes else (),
        )
        return self._look(blank, now)

    # ---- what happens in a step

    def control(self, before: Before, action: jax.Array) -> jax.Array:
        """The targets, moved, within their ranges, rad."""
        low, high = self.model.mj.actuator_ctrlrange.T.astype(action.dtype)
        was = before.memory.ctrl
        targets = jnp.clip(was + action * self.action_scale, low, high)
        return self.ema_alpha * targets + (1 - self.ema_alpha) * was

    def disturb(self, before: Before) -> physics.State:
        """The goal turns; the cube may be pushed."""
        assert before.state.mocap is not None
        turned = before.state.mocap._replace(quat=before.memory.goal[None])
        begins = before.state._replace(mocap=turned)
        if not self.pushes:
            return begins
        force = self._nudged(before.memory).nudges.force
        none = jnp.zeros((self.model.nbody, 6), force.dtype)
        return begins._replace(xfrc_applied=none.at[self.model.mj.body("cube").id].set(force))

    def _nudged(self, memory: Memory) -> Memory:
        """The memory after a step, as to pushes."""
        mass = float(self.model.mj.body_subtreemass[self.model.mj.body("cube").id])
        return memory._replace(nudges=memory.nudges.step(memory.key, mass, self.dt))

    def remember(self, memory: Memory, now: Moment) -> Memory:
        """What is seen, the action, pushes, and how the goal turns on."""
        if self.pushes:
            memory = self._nudged(memory)
        looked = self._look(memory._replace(ctrl=now.ctrl), now)
        key, of_spin = jax.random.split(looked.key)
        there = self._error(now) < self.success_threshold
        middle, spread = SPIN
        spin = jax.random.uniform(of_spin, (3,), memory.spin.dtype, -spread, spread) + middle
        spin = jnp.where(there, spin, memory.spin * SLOWER)
        return looked._replace(
            key=key,
            goal=turned_on(memory.goal, spin, 2 * self.dt),
            spin=spin,
            action=now.action,
            before=memory.action,
            since=jnp.where(there, 0, memory.since + 1),
            reached=memory.reached + there,
        )

    def _look(self, memory: Memory, now: Moment) -> Memory:
        """Joints and cube, with noise, before what was seen of them earlier."""
        key, of_joints = jax.random.split(memory.key)
        key, of_place, of_turn = jax.random.split(key, 3)
        key, *of_others = jax.random.split(key, 4)
        joints = now.state.qpos[: self.model.nu]
        level = {name: self.noise_level * scale for name, scale in NOISE.items()}
        joints = joints + level["joints"] * _either_way(of_joints, joints)
        place, turn = now.sensor("cube_position"), now.sensor("cube_orientation")
        place = place + level["place"] * _either_way(of_place, place)
        turn = turn + level["turn"] * jax.random.normal(of_turn, (4,), turn.dtype)
        turn = normalize(turn)
        if self.random_ori_injection_prob:
            of_rotation, of_shift, of_chance = of_others
            chance = jax.random.bernoulli(of_chance, self.random_ori_injection_prob)
            share = self.noise_level * chance.astype(place.dtype)
            place += share * (0.5 * _either_way(of_shift, place) - place)
            turn += share * (anyhow(of_rotation, turn.dtype) - turn)
        goal = now.sensor("cube_goal_orientation")
        newest = lambda new, old: jnp.concatenate([new, old])[: old.size]
        return memory._replace(
            key=key,
            behind=newest(joints - memory.ctrl, memory.behind),
            off=newest(now.sensor("palm_position") - place, memory.off),
            turned=newest(_two_rows(turn, goal), memory.turned),
            seen=joints,
        )

    # ---- what is seen

    def observation(self, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """For the policy, with noise; for the critic, more and without."""
        nu = self.model.nu
        state = [memory.seen, memory.behind, memory.off, memory.turned, memory.before]
        nudges = memory.nudges
        pushed = [nudges.way, nudges.force] if self.pushes else [jnp.zeros(12, memory.seen.dtype)]
        more = [
            *(now.state.qpos[:nu], now.state.qvel[:nu]),
            *(now.sensor(f"{tip}_position") for tip in TIPS),
            now.sensor("palm_position") - now.sensor("cube_position"),
            _two_rows(now.sensor("cube_orientation"), now.sensor("cube_goal_orientation")),
            *(now.sensor("cube_linvel"), now.sensor("cube_angvel"), *pushed),
        ]
        return {"state": jnp.concatenate(state), PRIVILEGED: jnp.concatenate(state + more)}

    # ---- what is rewarded

    def rewards(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Near the goal and the palm, in the pose, smoothly; and the goal itself."""
        nu, action = self.model.nu, now.action
        q, speeds = now.state.qpos[:nu], now.state.qvel[:nu]
        apart = now.sensor("palm_position") - now.sensor("cube_position")
        terms = {
            "orientation": lambda: near(self._error(now), 0.2, math.pi),
            "position": lambda: near(jnp.sqrt(square(apart)), 0.02, 0.05),
            "termination": lambda: self.terminal(memory, now),
            "hand_pose": lambda: square(q - jnp.asarray(self.init_qpos[:nu], q.dtype)),
            "action_rate": lambda: (
                square(action - past.action) + square(action - 2 * past.action + past.before)
            ),
            "joint_vel": lambda: square(speeds / 4.0),
            "energy": lambda: jnp.sum(jnp.abs(speeds * now.derived.actuator_force)),
        }
        there = (self._error(now) < self.success_threshold).astype(q.dtype)
        return {**weighted(self, terms, q.dtype), "success": there * self.success_reward}

    def measure(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Goals reached, and steps since the last one."""
        return {"steps_since_last_success": memory.since, "success_count": memory.reached}

    def terminal(self, memory: Memory, now: Moment) -> jax.Array:
        """The cube has fallen."""
        return now.sensor("cube_position")[2] < FALLEN

    def _error(self, now: Moment) -> jax.Array:
        """() rad between cube and goal."""
        goal = now.sensor("cube_goal_orientation")
        turn = normalize(quat_mul(now.sensor("cube_orientation"), quat_conjugate(goal)))
        return 2 * jnp.arcsin(jnp.minimum(jnp.sqrt(square(turn[1:])), 1.0))

    # ---- what can be drawn

    def drawing(self) -> mujoco.MjModel:
        """Hand and cube, and the goal as it turns: here a ball joint is what turns it."""
        return self._shown

    @functools.cached_property
    def _shown(self) -> mujoco.MjModel:
        spec = files.spec(self.name, files.scene(self.name, self.xml_file))
        for key in list(spec.keys):
            spec.delete(key)
        goal = next(body for body in spec.bodies if body.mocap)
        goal.mocap, goal.pos = False, self._home.mpos.ravel()
        goal.add_joint(type=mujoco.mjtJoint.mjJNT_BALL)
        return spec.compile()

    def pose(self, state: State) -> jax.Array:
        """Joints, cube, goal."""
        at = state.carry.physics
        return jnp.concatenate([at.qpos, at.mocap.quat[0]])

    def pushed(self, state: State, change: jax.Array) -> State:
        """The state with other velocities; the goal is not pushed."""
        return super().pushed(state, change[: self.model.nv])


def anyhow(key: jax.Array, dtype: Any) -> jax.Array:
    """(4,) any rotation, all alike (Shoemake 1992)."""
    u, v, w = jax.random.uniform(key, (3,), dtype)
    v, w = 2 * math.pi * v, 2 * math.pi * w
    a, b = jnp.sqrt(1 - u), jnp.sqrt(u)
    return jnp.stack([a * jnp.sin(v), a * jnp.cos(v), b * jnp.sin(w), b * jnp.cos(w)])


def turned_on(quat: jax.Array, spin: jax.Array, seconds: float) -> jax.Array:
    """(4,) a rotation after it has turned with spin (3,) rad/s, in its own axes."""
    speed = jnp.sqrt(square(spin))
    half = 0.5 * seconds * speed
    axis = spin / jnp.where(speed > 0, speed, 1)
    return normalize(quat_mul(quat, jnp.concatenate([jnp.cos(half)[None], jnp.sin(half) * axis])))


def near(x: jax.Array, far: float, margin: float) -> jax.Array:
    """() 1 where 0 <= x <= far, and beyond it along a line to 0.1 at far + margin, on to 0."""
    fall = 0.9 * (x - far) / margin
    return jnp.where(x <= far, 1.0, jnp.where(fall < 1, 1 - fall, 0.0))


def _two_rows(turn: jax.Array, goal: jax.Array) -> jax.Array:
    """(6,) the second and the third of the rotation from goal to cube; times its square, if a
    quaternion is not of length 1."""
    w, x, y, z = quat_mul(turn, quat_conjugate(goal))
    second = 2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)
    third = 2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z
    return jnp.stack([*second, *third])


def _either_way(key: jax.Array, like: jax.Array) -> jax.Array:
    """Uniform between -1 and 1, of the shape of an array."""
    return 2 * jax.random.uniform(key, like.shape, like.dtype) - 1
