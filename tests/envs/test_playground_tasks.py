"""Robots on command against Playground's own: same state, same action, same numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from tests.envs.playground_oracle import Beside, differences, load, ours, playground  # isort: skip

import gpusim
from gpusim import lanes
from gpusim.envs import registry
from gpusim.envs.tasks.playground import files, g1, getup, go1, leap, panda, pushes, randomized
from gpusim.envs.tasks.playground.joystick import Feet
from gpusim.envs.tasks.playground.pushes import LONG_AGO, Kicks, Nudges
from gpusim.envs.world import WorldError

NOTHING: Any = ()  # which is read before it is remembered


@pytest.fixture(autouse=True)
def x64():
    """Double precision: two engines then agree far beyond what a wrong formula could hide in. Not
    by `jax.enable_x64`, which threads that call C do not know of."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def of_go1(state: Any) -> go1.Memory:
    """What ours remembers, from theirs."""
    info = state.info
    feet = Feet(info["feet_air_time"], info["last_contact"], info["swing_peak"])
    told = info["command"], info["steps_until_next_cmd"]
    return go1.Memory(info["rng"], *told, info["last_act"], feet, NOTHING)


def of_getup(state: Any) -> getup.Memory:
    """What ours remembers, from theirs."""
    info = state.info
    return getup.Memory(info["rng"], info["last_act"], info["last_last_act"], NOTHING)


def of_g1(state: Any) -> g1.Memory:
    """What ours remembers, from theirs."""
    info = state.info
    feet = Feet(info["feet_air_time"], info["last_contact"], info["swing_peak"])
    return g1.Memory(
        info["rng"], info["command"], info["step"], info["last_act"], feet, info["phase"],
        info["phase_dt"][0], info["push_step"], info["push_interval_steps"], NOTHING,
    )  # fmt: skip


def of_panda(state: Any) -> panda.Memory:
    """What ours remembers, from theirs."""
    return panda.Memory(state.info["target_pos"], state.data.ctrl, state.info["reached_box"])


def of_leap(state: Any) -> leap.Memory:
    """What ours remembers, from theirs."""
    info = state.info
    return leap.Memory(
        key=info["rng"],
        goal=state.data.mocap_quat[0],
        spin=info["goal_quat_dquat"],
        ctrl=info["motor_targets"],
        action=info["last_act"],
        before=info["last_last_act"],
        behind=info["qpos_error_history"],
        off=info["cube_pos_error_history"],
        turned=info["cube_ori_error_history"],
        since=info["steps_since_last_success"],
        reached=info["success_count"],
        seen=NOTHING,
    )


REMEMBERED = {
    "Go1JoystickFlatTerrain": of_go1,
    "Go1JoystickRoughTerrain": of_go1,
    "Go1Getup": of_getup,
    "G1JoystickFlatTerrain": of_g1,
    "LeapCubeReorient": of_leap,
    "PandaPickCube": of_panda,
}


SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in ("Go1Getup", "G1JoystickFlatTerrain")]


@pytest.mark.parametrize("name", ["Go1JoystickFlatTerrain", *SLOW])
def test_a_task_is_playground_s(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path):
    compare(beside(name, monkeypatch, tmp_path), 40, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", REMEMBERED)
def test_a_task_is_playground_s_for_long(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path):
    if missing := registry.missing(name):
        pytest.skip(missing)
    if name.startswith("Panda"):
        tmp_path = files.robot(name, "franka_emika_panda").parent
    bound = 1e-4 if "Rough" in name else 1e-7  # C searches for contacts with cells of the ground
    compare(beside(name, monkeypatch, tmp_path), 1000, bound)


@pytest.mark.slow
def test_a_hand_with_options_is_playground_s(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """What is usually nothing, one or rare; goals are reached often."""
    shared = {"success_threshold": 2.6, "history_len": 3, "ema_alpha": 0.7}
    theirs = {"obs_noise.random_ori_injection_prob": 0.3, "reward_config.scales.joint_vel": -0.1}
    options = {"random_ori_injection_prob": 0.3, "joint_vel_weight": -0.1}
    name = "LeapCubeReorient"
    both = beside(name, monkeypatch, tmp_path, shared | theirs, **shared, **options)
    reached: list[bool] = []
    compare(both, 100, 1e-9, lambda now: reached.append(bool(now.metrics["reward/success"])))
    assert {*reached} == {True, False}


def of_pushed_go1(state: Any) -> go1.Memory:
    """The same, with pushes."""
    info = state.info
    lasts, since = info["pert_duration_seconds"], info["steps_since_last_pert"]
    kicks = Kicks(
        *(info["steps_until_next_pert"], lasts, info["pert_mag"], since),
        *(info["pert_steps"], info["pert_dir"]),
    )
    return of_go1(state)._replace(kicks=jax.tree.map(jnp.asarray, kicks))


def of_pushed_leap(state: Any) -> leap.Memory:
    """The same, with pushes."""
    info = state.info
    since = jnp.clip(info["step"] - info["last_pert_step"][0], 0, LONG_AGO).astype(int)
    nudges = Nudges(
        *(info["pert_wait_steps"], info["pert_duration_steps"], info["pert_vel"], info["step"]),
        *(since, info["pert_dir"], state.data.xfrc_applied.sum(0)),
    )
    return of_leap(state)._replace(nudges=nudges)


@pytest.mark.parametrize(
    ("name", "options", "remembered"),
    [
        (
            "Go1JoystickFlatTerrain",
            {"kick_wait_times": [0.06, 0.1], "kick_durations": [0.1, 0.3]},
            of_pushed_go1,
        ),
        pytest.param(
            "LeapCubeReorient",
            {"pert_wait_steps": [7, 9], "pert_duration_steps": [3, 6]},
            of_pushed_leap,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_pushes_are_playground_s(name, options, remembered, monkeypatch, tmp_path):
    """Often, for which their options are read from what they remember; strong ones are felt."""
    overrides = {f"pert_config.{option}": value for option, value in options.items()}
    env = load(name, monkeypatch, tmp_path, **overrides | {"pert_config.enable": True})
    both = Beside(env, ours(name, monkeypatch, pushes=True), remembered)
    force: list[float] = []
    compare(both, 40, 1e-9, lambda now: force.append(float(jnp.abs(now.data.xfrc_applied).max())))
    assert min(force) == 0
    assert max(force) > 0.01


def test_pushes_are_drawn_for_each_episode():
    """Within Playground's ranges, and of all worlds together all over them."""
    world: Any = gpusim.make("Go1JoystickFlatTerrain", pushes=True)
    kicks = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 300)).carry.memory.kicks
    for found, (low, high) in (
        (kicks.wait * world.dt, pushes.WAITS),
        (kicks.lasts, pushes.LASTS),
        (kicks.speed, pushes.SPEEDS),
    ):
        edge = 0.05 * (high - low)
        assert low <= found.min() < low + edge
        assert high - edge < found.max() <= high


def touching(mj: Any) -> np.ndarray:
    """(ngeom,) bool: which geoms may touch others."""
    return (mj.geom_contype != 0) | (mj.geom_conaffinity != 0)


def drawn(world: Any, numbers: Any) -> dict[str, Any]:
    """Of many worlds, all numbers of the fields that differ."""
    of_one = lambda one: {f: getattr(world.model.replace(**one), f) for f in one}
    return jax.vmap(of_one)(numbers)


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("Go1JoystickFlatTerrain", randomized.of_go1),
        pytest.param("G1JoystickFlatTerrain", randomized.of_g1, marks=pytest.mark.slow),
        pytest.param("LeapCubeReorient", randomized.of_leap, marks=pytest.mark.slow),
    ],
)
def test_randomized_numbers_are_playground_s(name, draw, monkeypatch, tmp_path):
    """Of the same keys, and all of them; and the task draws them if it is asked to."""
    from mujoco_playground._src.manipulation.leap_hand import reorient

    env = load(name, monkeypatch, tmp_path)
    monkeypatch.setattr(reorient, "CubeReorient", lambda: env)  # which is made again, for MJX Warp
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    theirs, axes = playground.registry.get_domain_randomizer(name)(env.mjx_model, keys)
    world: Any = gpusim.make(name, domain_randomization=True)
    mine = drawn(world, jax.vmap(lambda key: draw(world.model, key))(keys))
    assert {f for f in mine if getattr(axes, f) == 0} == {*mine}
    assert len(mine) == len([axis for axis in jax.tree.leaves(axes) if axis == 0])
    for field, value in mine.items():
        its, value = getattr(theirs, field), np.asarray(value)
        if field == "geom_friction":  # where there is no Menagerie our robot has no meshes to see
            its, value = its[:, touching(env.mj_model)], value[:, touching(world.model.mj)]
        np.testing.assert_allclose(value, its, rtol=1e-6, err_msg=field)
    carried = drawn(world, jax.vmap(world.reset)(keys).carry.numbers)
    assert {*carried} == {*mine}
    assert len(np.unique(carried["qpos0"], axis=0)) == len(keys)
    assert gpusim.make(name).reset(keys[0]).carry.numbers == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Go1JoystickFlatTerrain", "G1JoystickFlatTerrain"])
def test_a_randomized_robot_is_playground_s(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path):
    """C MuJoCo with the same numbers, and with the file's where its compiler derived some."""
    both = beside(name, monkeypatch, tmp_path)
    world: Any = gpusim.make(name, domain_randomization=True)
    both.numbers = world.reset(jax.random.key(3)).carry.numbers
    mj = both.env.mj_model
    for field, value in drawn(world, jax.tree.map(lambda x: x[None], both.numbers)).items():
        if field == "geom_friction":
            mj.geom_friction[touching(mj)] = value[0][touching(world.model.mj)]
        else:
            getattr(mj, field)[:] = value[0]
    mj.body_subtreemass[:] = mj.body_mass
    for body in range(mj.nbody - 1, 0, -1):
        mj.body_subtreemass[mj.body_parentid[body]] += mj.body_subtreemass[body]
    mj.body_sameframe[:] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE  # pyright: ignore[reportAttributeAccessIssue]
    compare(both, 40, 1e-9)


def beside(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    overrides: dict[str, Any] | None = None,
    **options: Any,
) -> Beside:
    """Theirs with the overrides and ours with the options."""
    env = load(name, monkeypatch, folder, **overrides or {})
    return Beside(env, ours(name, monkeypatch, **options), REMEMBERED[name])


def compare(
    both: Beside, steps: int, bound: float, watch: Callable[[Any], Any] = lambda state: None
) -> None:
    """Steps from states of theirs, a new episode when one has ended and after a hundred."""
    worst: dict[str, float] = {}
    for k in range(steps):
        if k % 100 == 0 or both.state.done:
            both.start(k)
        found = differences(both.world, *both.step())
        watch(both.state)
        worst = {part: max(worst.get(part, 0), value) for part, value in found.items()}
    assert {part: value for part, value in worst.items() if not value < bound} == {}, worst


def test_a_cube_starts_as_playground_s(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Mean and spread of every coordinate of 2,000 starts each."""
    both = beside("LeapCubeReorient", monkeypatch, tmp_path)
    keys = jax.random.split(jax.random.PRNGKey(1), 2000)
    data = jax.jit(jax.vmap(both.env.reset))(keys).data
    theirs = np.concatenate([data.qpos, data.qvel, data.ctrl, data.mocap_quat[:, 0]], axis=1)
    found = jax.jit(jax.vmap(both.world.reset))(keys).carry
    at = found.physics
    mine = np.concatenate([at.qpos, at.qvel, found.memory.ctrl, at.mocap.quat[:, 0]], axis=1)
    spread = theirs.std(0)
    np.testing.assert_allclose(mine.std(0), spread, rtol=0.1, atol=1e-12)
    error = 5 * spread / np.sqrt(1000) + 1e-12
    assert (np.abs(mine.mean(0) - theirs.mean(0)) < error).all()
    np.testing.assert_allclose(at.mocap.pos, data.mocap_pos)
    np.testing.assert_array_equal(found.memory.goal, at.mocap.quat[:, 0])


def test_a_hand_is_drawn_with_the_goal_as_it_is():
    world: Any = gpusim.make("LeapCubeReorient")
    state = world.reset(jax.random.key(0))
    state = jax.jit(world.step)(state, np.zeros(16))
    c: Any = mujoco
    shown = c.MjData(world.drawing())
    shown.qpos[:] = world.pose(state)
    c.mj_kinematics(world.drawing(), shown)
    np.testing.assert_allclose(shown.body("goal").xquat, state.carry.physics.mocap.quat[0])
    np.testing.assert_allclose(shown.body("goal").xpos, state.carry.physics.mocap.pos[0])
    np.testing.assert_allclose(shown.body("cube").xpos, state.carry.physics.qpos[16:19])
    change = np.arange(world.drawing().nv, dtype=float)
    moved = world.pushed(state, change).carry.physics.qvel - state.carry.physics.qvel
    np.testing.assert_allclose(moved, np.arange(22))


def test_a_hand_without_its_meshes_is_the_same_hand(monkeypatch: pytest.MonkeyPatch):
    make: Any = gpusim.make
    named = make("LeapCubeReorient").model.mj
    monkeypatch.setattr(files, "_menageries", lambda: iter(()))
    bare = make("LeapCubeReorient").model.mj
    assert bare.nmesh < named.nmesh or named.nmesh == 2  # those that Playground has
    for name in ("body_mass", "body_inertia", "body_ipos", "body_invweight0", "dof_invweight0"):
        np.testing.assert_array_equal(getattr(bare, name), getattr(named, name))


def test_a_gait_lifts_feet_and_puts_them_down():
    """At rest at both ends; a half of the way up in the middle of it."""
    phase: Any = np.array([-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi])
    np.testing.assert_allclose(g1.gait_height(phase, 0.2), [0, 0.1, 0.2, 0.1, 0], atol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["Go1JoystickFlatTerrain", pytest.param("G1JoystickFlatTerrain", marks=pytest.mark.slow)],
)
def test_a_command_that_was_given_stays(name: str):
    world: Any = gpusim.make(name)
    state = jax.jit(lanes.kernel(world.start))(jax.random.key(0))
    low = {part: bounds[0] for part, bounds in world.commands.items()}
    state = world.command(state, jax.tree.map(np.float64, low))
    memory, now = state.carry.memory, jax.eval_shape(world.start, jax.random.key(0)).carry
    np.testing.assert_allclose(memory.command, [*low.values()])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state.carry) == jax.tree.map(
        lambda x: (x.shape, x.dtype), now
    )
    step = jax.jit(lanes.kernel(world.transition))
    for _ in range(3):
        state = step(state, np.zeros(world.action_size))
        np.testing.assert_allclose(state.carry.memory.command, [*low.values()])


def test_a_robot_without_its_meshes_and_one_that_needs_them(tmp_path: Path):
    scene = """<mujoco><asset><mesh name="shell" file="gone.stl"/></asset><worldbody><body>
        <freejoint/>{inertial}<geom type="sphere" size=".1"/>
        <geom type="mesh" mesh="shell" {shown}/></body></worldbody></mujoco>"""
    path, weighs = tmp_path / "x.xml", '<inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
    path.write_text(scene.format(inertial=weighs, shown='contype="0" conaffinity="0"'))
    assert (model := files.read("robot", path)).nmesh == 0
    assert model.ngeom == 1
    for inertial, shown in [(weighs, ""), ("", 'contype="0" conaffinity="0"')]:
        path.write_text(scene.format(inertial=inertial, shown=shown))
        with pytest.raises(ValueError, match=r"'robot': there is no mesh gone.stl; .* Menagerie"):
            files.read("robot", path)
    with pytest.raises(ValueError, match=r"no nothing\.xml .*install playground.*nothing"):
        files.scene("robot", "nothing.xml")


def test_what_is_no_hand_is_refused(tmp_path: Path):
    path = tmp_path / "x.xml"
    for body, message in [("", "Invalid name 'home'"), ("<key name='home'/>", "'cube_position'")]:
        path.write_text(f"<mujoco><keyframe>{body}</keyframe></mujoco>")
        world: Any = gpusim.make("LeapCubeReorient", xml_file=str(path))
        with pytest.raises(WorldError, match=message):
            world.model  # noqa: B018


@pytest.mark.parametrize(
    ("task", "option", "value", "needs"),
    [
        ("LeapCubeReorient", "history_len", 0, "a whole number from 1 to 100"),
        ("LeapCubeReorient", "ema_alpha", 2.0, "from 0 to 1"),
        ("LeapCubeReorient", "success_threshold", -1.0, "a number from 0 on"),
        ("Go1Getup", "drop_from_height_prob", -1.0, "from 0 to 1"),
        ("Go1Getup", "settle_time", -1.0, "a time, s"),
        ("Go1JoystickFlatTerrain", "noise_level", -1.0, "a number from 0 on"),
    ],
)
def test_options_have_their_ranges(task: str, option: str, value: Any, needs: str):
    with pytest.raises(ValueError, match=f"'{task}': {option} is {value}, not {needs}"):
        gpusim.make(task, **{option: value})


def test_a_menagerie_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(files.MENAGERIE, "/no/such")
    with pytest.raises(ValueError, match="GPUSIM_MENAGERIE=/no/such: there is no such folder"):
        files.robot("PandaPickCube", "franka_emika_panda")


def test_a_scene_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "x.xml"
    body = '<body name="trunk">{root}<geom size=".1"/>{sites}</body>'
    sites = "".join(f'<site name="{name}"/>' for name in ("FR", "FL", "RR", "RL", "imu"))
    home = '<keyframe><key name="home"/></keyframe>'
    for root, there, key, message in [
        ("<freejoint/>", sites, "", "Invalid name 'home'"),
        ("<freejoint/>", "", home, "Invalid name 'FR'"),
        ("<joint/>", sites, home, "is not of one free body with a motor for each"),
    ]:
        scene = body.format(root=root, sites=there)
        path.write_text(f"<mujoco><worldbody>{scene}</worldbody>{key}</mujoco>")
        world: Any = gpusim.make("Go1JoystickFlatTerrain", xml_file=str(path))
        with pytest.raises(WorldError, match=message):
            world.model  # noqa: B018
