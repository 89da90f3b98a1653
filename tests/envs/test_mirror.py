"""What a mirror shows of a robot: C MuJoCo steps both, and the image's step is the step's image."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim import physics
from gpusim.envs import registry
from gpusim.envs.engines import in_mujoco
from gpusim.envs.mujoco_task import MujocoTask
from gpusim.envs.tasks.brax.ant import Ant
from gpusim.envs.world import World, WorldError
from gpusim.physics.mirror import AXIAL, POLAR, joined, rows

TO_THE_SIDE = np.array([1.0, -1.0])


def _point(memory: Any, task: Any) -> Any:
    return memory * POLAR


def _tracked(memory: Any, task: Any) -> Any:
    return memory._replace(point=memory.point * TO_THE_SIDE)


def _flag(memory: Any, task: Any) -> Any:
    swapped = {name: getattr(memory, name)[::-1] for name in ("feet", "seen")}
    return memory._replace(flag=memory.flag * TO_THE_SIDE, **swapped)


def _told(memory: Any, task: Any) -> Any:
    feet = np.array(task.image_of_feet)
    order = lambda tree: jax.tree.map(lambda x: x[feet], tree)
    command, action = memory.command * np.array([1, -1, -1]), task.mirror.ctrl(memory.action)
    return memory._replace(command=command, action=action, feet=order(memory.feet))


SLOW = pytest.mark.slow
TASKS = [  # and how far off: the humanoid's left knee has a spring, Go1's trunk is not even
    pytest.param("ant", {"exclude_current_positions_from_observation": False}, _point, 1e-6),
    pytest.param("humanoid", {}, _point, 0.05, marks=SLOW),
    pytest.param("Ant-v5", {}, _tracked, 1e-6),
    pytest.param("Humanoid-v5", {}, _tracked, 0.05, marks=SLOW),
    pytest.param("humanoid_flagrun", {"ankles": True}, _flag, 1e-6, marks=SLOW),
    pytest.param(
        "Go1JoystickFlatTerrain", {"noise_level": 0.0, "pushes": False}, _told, 0.2, marks=SLOW
    ),
]


@pytest.fixture
def double():
    """For callbacks too, on threads of their own."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize(("name", "options", "mirrored", "bound"), TASKS)
def test_the_image_of_a_step_is_the_step_of_the_image(name, options, mirrored, bound, double):
    if missing := registry.missing(name):
        pytest.skip(missing)
    task: Any = in_mujoco(gpusim.make(name, **options))
    step, rng = jax.jit(task.step), np.random.default_rng(0)
    state = jax.jit(task.start)(jax.random.key(0))
    for _ in range(8):  # the feet come to the ground
        action = jnp.asarray(rng.uniform(-1, 1, task.action_size))
        at, after = state, step(state, action)
        state = after
    carry = at.carry
    there = carry._replace(
        physics=carry.physics._replace(
            qpos=task.mirror.qpos(carry.physics.qpos),
            qvel=task.mirror.qvel(carry.physics.qvel),
            qacc_warmstart=task.mirror.qvel(carry.physics.qacc_warmstart),
        ),
        memory=mirrored(carry.memory, task),
    )
    obs, its_action = task.mirrored(after.obs, action)
    image = step(at.replace(carry=there), its_action)
    for x, y in zip(jax.tree.leaves(image.obs), jax.tree.leaves(obs), strict=True):
        off = np.abs(x - y) / (1 + np.abs(y))
        if name.startswith("Go1"):  # whose unit that measures velocity is on its right
            linear = [0, 1, 2] if len(x) == 48 else [0, 1, 2, *range(51, 54), *range(57, 60)]
            off = np.delete(off, linear)
        assert off.max() < bound, (off.argmax(), off.max())
    np.testing.assert_allclose(image.reward, after.reward, rtol=bound)


def test_parts_and_rows_change_places():
    signed = joined([1, -1], rows([1, 0], POLAR, [1]), AXIAL)
    assert signed.index.tolist() == [0, 1, 6, 7, 8, 9, 2, 3, 4, 5, 10, 11, 12]
    assert signed.sign.tolist() == [1, -1, 1, -1, 1, 1, 1, -1, 1, 1, -1, 1, -1]
    assert signed(np.arange(13.0)).tolist() == [0, -1, 6, -7, 8, 9, 2, -3, 4, 5, -10, 11, -12]
    assert signed.part(2, 8).index.tolist() == [4, 5, 6, 7, 0, 1, 2, 3]


LEGS = """
<mujoco><worldbody><body name="trunk" pos="0 0 1"><freejoint name="root"/>
  <geom type="box" size=".2 .1 .05" mass="3"/>
  <body name="left" pos="0 .2 0"><joint name="left_hip" axis="{axis}" range="-30 60"/>
    <geom type="capsule" size=".03" fromto="0 0 0 0 {out} -.3" mass="{mass}"/></body>
  <body name="right" pos="0 {y} 0"><joint name="right_hip" axis="1 0 0" range="-60 30"/>
    <geom type="capsule" size=".03" fromto="0 0 0 0 -.1 -.3" mass=".5"/></body>
</body></worldbody>
<actuator><motor joint="left_hip" gear="{gear}"/><{motor}/></actuator></mujoco>"""


def _legs(**changes: Any) -> mujoco.MjModel:
    usual = {"axis": "-1 0 0", "out": ".1", "mass": ".5", "y": "-.2", "gear": "2"}
    usual["motor"] = 'motor joint="right_hip" gear="2"'
    return mujoco.MjModel.from_xml_string(LEGS.format(**(usual | changes)))


def test_hinges_that_turn_the_other_way_keep_their_sign():
    assert physics.mirror(_legs()).ctrl.sign.tolist() == [1, 1]  # outwards is positive for both
    found = physics.mirror(_legs(axis="1 0 0"))
    assert (found.ctrl.index.tolist(), found.ctrl.sign.tolist()) == ([1, 0], [-1, -1])
    assert physics.mirror(_legs(gear="-2")).ctrl.sign.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"y": "-.25"}, "joint 'left_hip' is the mirror image of none"),
        ({"mass": "2"}, "body 'left' is the mirror image of none"),
        ({"out": "-.2"}, "its mirror image moves otherwise at joint"),
        ({"motor": 'motor joint="left_hip"'}, "actuator '0' is the mirror image of 0 others"),
        ({"motor": 'adhesion body="right" ctrlrange="0 1"'}, "actuator '1' drives no joint"),
    ],
)
def test_what_is_not_its_own_image_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        physics.mirror(_legs(**changes))


def test_a_task_with_another_observation_needs_another_image():
    class Blind(Ant):
        def observation(self, memory, now):
            return now.state.qvel[:6]

    with pytest.raises(WorldError, match=r"Blind.*observation of its own.*image of Ant"):
        Blind().mirrored(np.zeros(6), np.zeros(8))


def test_a_world_without_an_image_says_so():
    with pytest.raises(WorldError, match="'ant' is seen through a camera"):
        gpusim.make("ant", camera="track").mirrored(np.zeros(100), np.zeros(8))
    assert MujocoTask.mirrored is not World.mirrored
    with pytest.raises(NotImplementedError, match=r"half_cheetah.*mirror"):
        gpusim.make("half_cheetah").mirrored(np.zeros(17), np.zeros(6))
