"""Humanoids on rough ground: what they stand on, touch and see is what C MuJoCo has there."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim import lanes
from gpusim.envs.tasks.roboschool.rough import AHEAD, ASIDE
from gpusim.envs.tasks.roboschool.terrain import Terrain
from tests.envs.test_flagrun import Oracle, euler

ROUGH, HARDER = "humanoid_flagrun_rough", "humanoid_flagrun_harder_rough"


@pytest.fixture(autouse=True)
def x64():
    """Double precision: a wrong formula cannot hide."""
    with jax.enable_x64(True):
        yield


class Rays:
    """How high it is somewhere, by C MuJoCo's rays from above, past the robots."""

    def __init__(self, model: mujoco.MjModel):
        self.m, self.d = model, mujoco.MjData(model)
        self.d.qpos[:3] = self.d.qpos[-7:-4] = [0, 0, 99]  # the robot, and its cube if it has one
        mujoco.mj_forward(model, self.d)
        self.floor = model.geom("floor").id

    def ground(self, x: float, y: float) -> float:
        down = np.array([0.0, 0.0, -1.0])
        return 5 - mujoco.mj_rayHfield(self.m, self.d, self.floor, np.array([x, y, 5.0]), down)

    def surface(self, x: float, y: float) -> float:
        down, hit = np.array([0.0, 0.0, -1.0]), np.zeros(1, np.int32)
        return 5 - mujoco.mj_ray(self.m, self.d, np.array([x, y, 5.0]), down, None, 1, -1, hit)


def test_heights_are_where_rays_end():
    world: Any = gpusim.make(ROUGH)
    rays, random = Rays(world.model.mj), np.random.default_rng(0)
    places = random.uniform([-29.9, -14.9], [29.9, 14.9], (600, 2))
    near = world.terrain.boxes[:, :2] + random.uniform(-0.6, 0.6, (20, 40, 2))
    places = np.concatenate([places, near.reshape(-1, 2)])
    ground, surface = jax.jit(jax.vmap(lambda x: (world.ground(x), world.terrain.surface(x))))(
        jnp.asarray(places)
    )
    np.testing.assert_allclose(ground, [rays.ground(*at) for at in places], atol=1e-6)
    np.testing.assert_allclose(surface, [rays.surface(*at) for at in places], atol=1e-6)
    assert (surface > ground + 0.05).sum() > 100  # boxes, at all
    assert ground.max() - ground.min() > 0.2


def test_ground_and_boxes_are_made_of_what_the_floor_was():
    rough: Any = gpusim.make(HARDER)
    flat: Any = gpusim.make("humanoid_flagrun_harder")
    mj, other = rough.model.mj, flat.model.mj
    facts = ("contype", "conaffinity", "friction", "condim", "solref", "solimp", "solmix", "margin")
    for name in ("floor", *(f"box_{k}" for k in range(40))):
        for fact in facts:
            mine, its = (getattr(m, f"geom_{fact}")[m.geom(n).id] for m, n in
                         ((mj, name), (other, "floor")))  # fmt: skip
            np.testing.assert_array_equal(mine, its, err_msg=fact)


def test_the_ground_by_hand():
    """Four squares of 0.5 m, whose corner at x = -29.5, y = -14.5 is 1 m high, and a box of 2 m."""
    heights = np.zeros((61, 121))
    heights[1, 1] = 1.0
    box = np.array([[0.0, 0.0, 0.5, 1.0, -0.3, 2.0]])
    terrain = Terrain(heights, box, np.zeros((1, 3)))
    for x, y, height in [
        (-30, -15, 0.0),
        (-29.5, -14.5, 1.0),
        (-29.75, -14.75, 0.5),  # on the diagonal to the top
        (-29.75, -14.9, 0.2),  # 0.1 m beside the field's edge, from where it rises to 1 m in 0.5 m
        (-29.25, -14.25, 0.5),  # on the diagonal from the top
        (-29.25, -14.75, 0.0),  # on the other one, between corners that are 0
        (-99, 99, 0.0),
    ]:
        at = jnp.asarray([x, y], float)
        np.testing.assert_allclose(terrain.ground(at), height, atol=1e-12)
        np.testing.assert_allclose(terrain.surface(at), height, atol=1e-12)
    tops = [((0.49, -0.99), 2.0), ((0.51, 0.0), 0.0), ((0.0, 1.01), 0.0)]
    for at, height in tops:
        np.testing.assert_allclose(terrain.surface(jnp.asarray(at)), height)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [(ROUGH, 60), (HARDER, 130)])
def test_a_step_is_c_mujoco_s(name: str, steps: int):
    """Falls, bodies that lie on the ground and on boxes, cubes that are thrown: from each state the
    motion is C's, and so is what is seen and paid."""
    world: Any = gpusim.make(name)
    mj = world.model.mj
    mj.opt.iterations, mj.opt.ccd_iterations, mj.opt.ccd_tolerance = 100, 400, 1e-12
    oracle, rays, random = Oracle(mj, 17, world.dt), Rays(mj), np.random.default_rng(1)
    floor = mj.geom("floor").id
    boxes = {mj.geom(f"box_{k}").id for k in range(40)}
    cube = mj.geom("cube").id if name == HARDER else -1
    step, start = jax.jit(lanes.kernel(world.transition)), jax.jit(world.reset)(jax.random.key(2))
    x, y, _, _, _, top = world.terrain.boxes[0]
    above = start.carry.physics.qpos.at[:3].set(jnp.asarray([x + 0.1, y, top + 1.35]))
    onto = start.replace(
        carry=start.carry._replace(physics=start.carry.physics._replace(qpos=above))
    )
    touched, on_boxes = 0, 0
    for state in (start, onto):
        for _ in range(steps):
            before, action = state, random.uniform(-1, 1, 17)
            state = step(state, jnp.asarray(action))
            past, memory = before.carry.memory, state.carry.memory
            if name == HARDER and past.throw:
                break  # a cube is elsewhere then: see test_flagrun.py
            oracle.step(before.carry.physics, action, 4)
            pairs = [{*c.geom} for c in oracle.d.contact if c.exclude == 0]
            touched += any(floor in pair for pair in pairs)
            on_boxes += any(pair & boxes for pair in pairs)
            if any(cube in pair and floor in pair for pair in pairs):
                continue  # whose depth C knows roughly: docs/physics.md
            at = state.carry.physics
            np.testing.assert_allclose(at.qpos, oracle.d.qpos, atol=1e-9)
            np.testing.assert_allclose(at.qvel, oracle.d.qvel, atol=1e-7)
            ground = rays.ground(*oracle.d.qpos[:2])
            run, feet = (past.run, memory.run) if name == HARDER else (past, memory)
            seen = oracle.observation(feet.flag, run.feet, 13)
            seen[0] -= ground
            np.testing.assert_allclose(state.obs[:44], np.clip(seen, -5, 5), atol=1e-5)
            height = oracle.d.qpos[2] - ground
            if name == ROUGH:
                assert bool(state.terminated) == (height <= 0.78)
                assert state.metrics["reward_alive"] == (2.0 if height > 0.78 else -1.0)
            elif not state.terminated:
                pelvis = oracle.d.xpos[mj.body("pelvis").id, 2] - ground
                up = 0.5 + 1.5 * np.clip(0.7 * height + 0.3 * pelvis, 0, 0.7) / 0.7
                np.testing.assert_allclose(state.metrics["reward_alive"], up, atol=1e-6)
            feet_off = sum(
                bool(oracle.touched(f"{side}_foot") - {floor}) for side in ("right", "left")
            )
            np.testing.assert_allclose(state.metrics["reward_feet_collision"], -feet_off)
    assert touched > steps // 2
    assert on_boxes > 20


def test_the_scan_is_where_the_robot_faces():
    world: Any = gpusim.make(ROUGH)
    rays, start = Rays(world.model.mj), jax.jit(world.reset)(jax.random.key(0))
    begin = jax.jit(world.begin)
    x, y, *_ = world.terrain.boxes[3]
    for turn in (0.0, 0.5 * np.pi, -2.0):  # to the left of +x; leaning, too
        quat = np.zeros(4)
        mujoco.mju_mulQuat(
            quat,
            np.array([np.cos(turn / 2), 0, 0, np.sin(turn / 2)]),
            np.array([np.cos(0.1), 0, np.sin(0.1), 0]),
        )
        yaw = euler(quat)[2]
        place = np.array([x, y]) - 0.8 * np.array([np.cos(yaw), np.sin(yaw)])
        qpos = start.carry.physics.qpos.at[:7].set(jnp.array([*place, 1.4, *quat]))
        scan = begin(jax.random.key(0), qpos, jnp.zeros(world.model.nv)).obs[44:]
        expected = []
        for ahead in AHEAD:
            for aside in ASIDE:
                way = np.array([np.cos(yaw), np.sin(yaw)]) * ahead
                way += np.array([-np.sin(yaw), np.cos(yaw)]) * aside
                expected.append(rays.surface(*(place + way)) - rays.ground(*place))
        np.testing.assert_allclose(scan, expected, atol=1e-6)
        ahead = scan.reshape(6, 5)[3, 2]  # 0.8 m ahead: the box's middle
        np.testing.assert_allclose(ahead, rays.surface(x, y) - rays.ground(*place), atol=1e-6)


@pytest.mark.parametrize("name", [ROUGH, HARDER])
def test_starts_are_free(name: str):
    """Of boxes, and no deeper in the ground than on flat ground."""
    deepest = []
    for world in (gpusim.make(name, roughness=0.0, obstacles=0), gpusim.make(name)):
        one: Any = world
        mj, data = one.model.mj, mujoco.MjData(one.model.mj)
        qpos, _ = jax.jit(jax.vmap(one.initial))(jax.random.split(jax.random.key(0), 200))
        found = []
        for q in np.asarray(qpos):
            data.qpos[:] = q
            mujoco.mj_forward(mj, data)
            touched = [(c.dist, [mj.geom(g).name for g in c.geom]) for c in data.contact]
            assert not any("box" in str(names) for _, names in touched)
            found.append(min([d for d, names in touched if "floor" in names], default=0.0))
        deepest.append(min(found))
    assert deepest[1] >= deepest[0] - 0.005
    assert len(np.unique(np.asarray(qpos)[:, 0].round(6))) > 50


def test_a_terrain_is_its_seed_s():
    draw = lambda seed: Terrain.drawn(seed, 0.3, 10, reach=0.3, apart=2.0)
    one, same, other = draw(0), draw(0), draw(1)
    np.testing.assert_array_equal(one.heights, same.heights)
    np.testing.assert_array_equal(one.boxes, same.boxes)
    assert np.abs(one.heights - other.heights).mean() > 0.03
    assert (one.heights.min(), one.heights.max()) == (0, pytest.approx(0.3))
    gaps = np.linalg.norm(one.places[:, None, :2] - one.places[:, :2], axis=2)
    assert (gaps + 9 * np.eye(len(gaps))).min() >= 2


def test_what_is_no_terrain_is_refused():
    for options, what in [
        ({"roughness": -0.1}, "roughness is -0.1, not a number from 0 to 2"),
        ({"obstacles": -1}, "obstacles is -1, not a whole number from 0"),
        ({"terrain_seed": -1}, "terrain_seed is -1, not a whole number"),
    ]:
        with pytest.raises(ValueError, match=f"environment '{ROUGH}': {what}"):
            gpusim.make(ROUGH, **options)
