"""Panda: an arm with a gripper, which brings a cube to a place.

After mujoco_playground/_src/manipulation/franka_emika_panda/pick.py.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpusim import physics
from gpusim.envs.mujoco_task import Before, Moment, MujocoTask
from gpusim.envs.tasks.playground import files

SPREAD = 0.2  # m, of the cube and of where it is to be, either way on the ground
LIFTED = (0.2, 0.4)  # m, above the cube's start
GRASPED = 0.012  # m between gripper and cube


class Memory(NamedTuple):
    """What is remembered from step to step."""

    target: jax.Array  # (3,) m: where the cube is to be
    ctrl: jax.Array  # (8,) the joints' targets, rad; the gripper's, m
    reached: jax.Array  # () 0 or 1: was the gripper ever around the cube?


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PandaPickCube(MujocoTask):
    """Bring a cube to a place in the air (Playground's Panda).

    An action moves the targets of joints and gripper. Observed: coordinates and velocities, place
    and axes of gripper and cube, their difference, that of cube and target, how far joints are
    behind their targets. Playground's very first observation has zeros for all places.
    """

    max_episode_steps: ClassVar[int] = 150

    xml_file: str = "manipulation/franka_emika_panda/xmls/mjx_single_cube.xml"
    """The scene: a file of Playground's, or a path that begins with `.`, `/` or `~`."""
    n_frames: int = 4
    """Physics steps in a control step."""
    action_scale: float = 0.04
    """How far an action of 1 moves a target, rad or m."""
    gripper_box_weight: float = 4.0
    """Weight of the gripper being near the cube."""
    box_target_weight: float = 8.0
    """Weight of the cube being near its target, once it was reached."""
    no_floor_collision_weight: float = 0.25
    """Weight of a gripper that does not touch the floor."""
    robot_target_qpos_weight: float = 0.3
    """Weight of an arm near the keyframe's pose."""

    def __post_init__(self):
        super().__post_init__()
        files.scene(self.name, self.xml_file)  # what is not there is told at once
        files.robot(self.name, "franka_emika_panda")

    @functools.cached_property
    def model(self) -> physics.Model:
        """The physics model."""
        scene = files.scene(self.name, self.xml_file)
        mj = files.read(self.name, scene, "franka_emika_panda")
        mj.opt.timestep = 0.005
        return self.engine.load(mj)

    @functools.cached_property
    def _home(self):
        return self.model.mj.keyframe("home")

    @functools.cached_property
    def init_qpos(self) -> np.ndarray:
        """(16,) the keyframe's pose: seven joints, two fingers, the cube."""
        return np.array(self._home.qpos)

    def rest(self, qpos: jax.Array) -> jax.Array:
        """The keyframe's targets."""
        return jnp.asarray(self._home.ctrl, qpos.dtype)

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The cube somewhere on the ground."""
        shift = jax.random.uniform(key, (2,), minval=-SPREAD, maxval=SPREAD)
        qpos = jnp.asarray(self.init_qpos, shift.dtype)
        return qpos.at[9:11].add(shift), jnp.zeros(self.model.nv)

    def first_memory(self, key: jax.Array, now: Moment) -> Memory:
        """A place above the ground."""
        dtype = now.state.qpos.dtype
        low = jnp.asarray([-SPREAD, -SPREAD, LIFTED[0]], dtype)
        high = jnp.asarray([SPREAD, SPREAD, LIFTED[1]], dtype)
        shift = jax.random.uniform(key, (3,), dtype, low, high)
        start = jnp.asarray(self.init_qpos[9:12], dtype)
        return Memory(start + shift, now.ctrl, jnp.zeros((), dtype))

    def control(self, before: Before, action: jax.Array) -> jax.Array:
        """The targets, moved, within their ranges."""
        low, high = self.model.mj.actuator_ctrlrange.T.astype(action.dtype)
        return jnp.clip(before.memory.ctrl + action * self.action_scale, low, high)

    def remember(self, memory: Memory, now: Moment) -> Memory:
        """The targets, and whether the cube was reached."""
        near = self._apart(now) < GRASPED
        return Memory(memory.target, now.ctrl, jnp.maximum(memory.reached, near.astype(float)))

    def observation(self, memory: Memory, now: Moment) -> jax.Array:
        """(66,) see the class."""
        qpos = now.state.qpos
        cube, axes = self._cube(now)
        hand, turned = self._hand(now)
        unit = jnp.eye(3, dtype=qpos.dtype)
        return jnp.concatenate(
            [
                *(qpos, now.state.qvel, hand, turned[1:].ravel(), axes[1:].ravel()),
                *(cube - hand, memory.target - cube, (unit - axes)[:2].ravel()),
                memory.ctrl - qpos[:8],
            ]
        )

    def rewards(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Near the cube; the cube near its target; off the floor; near the pose."""
        cube, axes = self._cube(now)
        off = _norm(memory.target - cube)
        turned = _norm((jnp.eye(3, dtype=axes.dtype) - axes)[:2].ravel())
        there = 1 - jnp.tanh(5 * (0.9 * off + 0.1 * turned))
        parts = ("left_finger_pad", "right_finger_pad", "hand_capsule")
        hit = jnp.stack([now.sensor(f"{part}_floor_found")[0] > 0 for part in parts]).any()
        arm = now.state.qpos[:7] - jnp.asarray(self.init_qpos[:7], axes.dtype)
        return {
            "gripper_box": self.gripper_box_weight * (1 - jnp.tanh(5 * self._apart(now))),
            "box_target": self.box_target_weight * there * memory.reached,
            "no_floor_collision": self.no_floor_collision_weight * (~hit).astype(axes.dtype),
            "robot_target_qpos": self.robot_target_qpos_weight * (1 - jnp.tanh(_norm(arm))),
        }

    def measure(self, past: Memory, memory: Memory, now: Moment) -> dict[str, jax.Array]:
        """Distance of the cube from its target, m; whether it is out of bounds."""
        cube, _ = self._cube(now)
        return {
            "distance": _norm(memory.target - cube),
            "out_of_bounds": self.terminal(memory, now).astype(cube.dtype),
        }

    def terminal(self, memory: Memory, now: Moment) -> jax.Array:
        """The cube is far away or below the floor."""
        cube, _ = self._cube(now)
        return (jnp.abs(cube) > 1).any() | (cube[2] < 0)

    def _cube(self, now: Moment) -> tuple[jax.Array, jax.Array]:
        """Place (3,) and axes (3, 3)."""
        i = self.model.mj.body("box").id
        return now.derived.xpos[i], now.derived.xmat[i]

    def _hand(self, now: Moment) -> tuple[jax.Array, jax.Array]:
        """Place (3,) and axes (3, 3) of the gripper's site."""
        i = self.model.mj.site("gripper").id
        axes = now.derived.xmat[self.model.mj.site_bodyid[i]]
        return now.derived.site_xpos[i], axes @ jnp.asarray(now.model.site_mat[i], axes.dtype)

    def _apart(self, now: Moment) -> jax.Array:
        return _norm(self._cube(now)[0] - self._hand(now)[0])


def _norm(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(x)))
