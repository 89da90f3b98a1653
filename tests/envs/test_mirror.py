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
<mujoco><option gravity="0 {sideways} -9.81"/><worldbody>
<body name="trunk" pos="0 0 1" euler="0 0 {turn}"><freejoint name="root"/>
  <geom type="box" size=".2 .1 .05" mass="3"/>
  <body name="left" pos="0 .2 0"><joint name="left_hip" axis="{axis}" range="-30 60" ref="{ref}"/>
    <geom type="capsule" size=".03" fromto="0 0 0 0 {out} -.3" mass="{mass}"/>
    <geom name="toe" size="{toe}" pos="0 {out} -.3" mass="0" friction="{friction}"/></body>
  <body name="right" pos="0 {y} 0"><joint name="right_hip" axis="1 0 0" range="-60 30"/>
    <geom type="capsule" size=".03" fromto="0 0 0 0 -.1 -.3" mass=".5"/>
    <geom size=".04" pos="0 -.1 -.3" mass="0"/></body>
</body></worldbody>
<equality><joint joint1="left_hip" active="{locked}"/></equality>
<actuator><{own} joint="left_hip" gear="{gear}" {takes}/><{motor}/></actuator></mujoco>"""


def _legs(**changes: Any) -> mujoco.MjModel:
    usual = {"axis": "-1 0 0", "out": ".1", "mass": ".5", "y": "-.2", "gear": "2", "ref": "0"}
    usual |= {"toe": ".04", "friction": "1", "sideways": "0", "turn": "0", "locked": "false"}
    usual |= {"own": "motor", "takes": "", "motor": 'motor joint="right_hip" gear="2"'}
    return mujoco.MjModel.from_xml_string(LEGS.format(**(usual | changes)))


def test_hinges_that_turn_the_other_way_keep_their_sign():
    assert physics.mirror(_legs()).ctrl.sign.tolist() == [1, 1]  # outwards is positive for both
    found = physics.mirror(_legs(axis="1 0 0"))
    assert (found.ctrl.index.tolist(), found.ctrl.sign.tolist()) == ([1, 0], [-1, -1])
    assert physics.mirror(_legs(gear="-2")).ctrl.sign.tolist() == [-1, -1]
    assert physics.mirror(_legs(turn="180")).ctrl.index.tolist() == [1, 0]  # facing backwards


SPREAD = """
<mujoco><worldbody><body name="trunk" pos="0 0 1"><freejoint/>
  <geom type="box" size=".2 .1 .05" mass="3"/>
  <body name="right"><geom type="capsule" size=".03" fromto="0 0 0 .1 -.3 0" mass=".5"/>
    <body name="right_yaw" pos=".1 -.3 0"><joint axis="0 0 1"/><geom size=".05" mass=".5"/>
    <body name="right_roll"><joint axis="1 0 0"/><geom size=".05" mass=".5"/>
    <body name="right_foot" pos="0 0 -.2"><geom size=".06" mass=".5"/></body></body></body></body>
  <body name="left"><geom type="capsule" size=".03" fromto="0 0 0 .1 .3 0" mass=".5"/>
    <body name="left_yaw" pos=".1 .3 0"><joint axis="0 0 1"/><geom size=".05" mass=".5"/>
    <body name="left_roll"><joint axis="1 0 0"/><geom size=".05" mass=".5"/>
    <body name="left_foot" pos="0 0 -.2"><geom size=".06" mass=".5"/></body></body></body></body>
</body></worldbody></mujoco>"""


def test_bodies_at_one_place_are_told_from_each_other():
    """The legs begin in the middle of the trunk, and are fixed to it; roll is where yaw is."""
    mj = mujoco.MjModel.from_xml_string(SPREAD)
    bodies = physics.mirror(mj).bodies
    other = {"right": "left", "left": "right"}
    for body in range(2, mj.nbody):
        side, *rest = mj.body(body).name.split("_")
        assert mj.body(int(bodies[body])).name == "_".join([other[side], *rest])


def test_forces_on_bodies_have_an_image():
    """As C works them out of an ant that lies on the ground, and of its image."""
    if missing := registry.missing("Ant-v5"):
        pytest.skip(missing)
    mj, rng = gpusim.make("Ant-v5").model.mj, np.random.default_rng(0)
    mirror, data, felt = physics.mirror(mj), mujoco.MjData(mj), np.zeros(mj.nbody, bool)

    mj.geom("torso_geom").contype = 0  # which would keep the hips off the ground

    def forces(qpos, qvel):
        mujoco.mj_resetData(mj, data)
        data.qpos, data.qvel = qpos, qvel
        mujoco.mj_forward(mj, data)
        mujoco.mj_rnePostConstraint(mj, data)
        return data.cfrc_ext.copy()

    for _ in range(200):
        qpos, qvel = mj.qpos0.copy(), rng.normal(size=mj.nv)
        qpos[2] = 0.1
        away = rng.normal(0, [0.01] * 3 + [2] * 3 + [0.3] * (mj.nv - 6))
        mujoco.mj_integratePos(mj, qpos, away, 1)
        force, its = forces(qpos, qvel), forces(mirror.qpos(qpos), mirror.qvel(qvel))
        felt |= np.abs(force).max(1) > 1
        image = mirror.of_bodies(AXIAL, POLAR)(force[1:].ravel())
        np.testing.assert_allclose(its[1:].ravel(), image, atol=1e-6 * np.abs(force).max())
    assert felt[2:].all()


ROCKET = 'motor joint="root" gear="0 0 1 0 0 0"/><motor joint="right_hip"'
ONE_WAY = 'motor joint="right_hip" gear="2" ctrlrange="0 1"'
SLOW_MOTOR = 'general dyntype="filter" dynprm="0.1"'
OTHERWISE_SLOW = 'general joint="right_hip" gear="2" dyntype="filter" dynprm="0.2"'


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"y": "-.25"}, "joint 'left_hip' is the mirror image of none"),
        ({"mass": "2"}, "body 'left' is the mirror image of none"),
        ({"out": "-.2"}, "geom '1' of body 'left' is the mirror image of none"),
        ({"motor": 'motor joint="left_hip"'}, "actuator '0' is the mirror image of 0 others"),
        ({"motor": 'adhesion body="right" ctrlrange="0 1"'}, "actuator '1' drives no joint"),
        ({"motor": ROCKET}, "actuator '1' drives a free joint"),
        ({"mass": ".6"}, "body 'left' is the mirror image of none"),
        ({"gear": "2.6"}, "moves otherwise at joint '(left|right)_hip'"),
        ({"ref": "20"}, "joint 'left_hip' .* of 'right_hip', but counts from another angle"),
        ({"toe": ".06"}, "geom 'toe' of body 'left' is the mirror image of none"),
        ({"friction": ".5"}, "geom 'toe' of body 'left' is the mirror image of none"),
        ({"sideways": "1"}, "moves otherwise at joint 'root'"),
        ({"locked": "true"}, "moves otherwise at joint"),
        ({"turn": "20"}, "free joint 'root' is not in the plane y = 0"),
        ({"gear": "-2", "takes": 'ctrlrange="0 1"', "motor": ONE_WAY}, "'0' takes 0 to 1, which"),
        ({"own": SLOW_MOTOR, "motor": OTHERWISE_SLOW}, "'0' is not activated as its mirror"),
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


def test_controls_of_other_ranges_give_an_action_no_image():
    class Legs(Ant):
        mjcf = _legs(takes='ctrlrange="-.5 1"')

    with pytest.raises(
        WorldError, match="actuator '0' and its mirror image '1' have control ranges"
    ):
        Legs().mirrored(np.zeros(14), np.zeros(2))


def test_robots_of_a_scene_have_the_image_of_one():
    alone, two = (gpusim.make("humanoid_flagrun", robots=n) for n in (1, 2))
    obs, action = np.arange(44.0), np.arange(17.0)
    jax.tree.map(
        np.testing.assert_array_equal, two.mirrored(obs, action), alone.mirrored(obs, action)
    )
