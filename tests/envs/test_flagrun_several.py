"""Several humanoids in one scene: each is what it is alone, until they collide as C MuJoCo says."""

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
from gpusim.envs import autoreset
from gpusim.envs.sizes import Sizes
from gpusim.envs.tasks.roboschool import harder

NAMES = ("humanoid_flagrun", "humanoid_flagrun_harder", "humanoid_flagrun_harder_rough")


@pytest.fixture(autouse=True)
def x64():
    """Double precision: a wrong formula cannot hide."""
    with jax.enable_x64(True):
        yield


def rows(tree: Any, k: int) -> Any:
    """What is a robot's of what all have."""
    return jax.tree.map(lambda x: x[k], tree)


def several(name: str, robots: int, **options: Any) -> Any:
    return gpusim.make(name, robots=robots, **options)


def converged(model: mujoco.MjModel) -> mujoco.MjData:
    """C's data, with solvers let to their ends."""
    model.opt.iterations, model.opt.ccd_iterations, model.opt.ccd_tolerance = 100, 400, 1e-12
    return mujoco.MjData(model)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_an_agent(name: str):
    one, three = several(name, 1), several(name, 3)
    assert Sizes.of(three) == Sizes.of(one)._replace(agents=3)
    assert three.model.nq == 3 * one.model.nq
    shapes = jax.eval_shape(three.start, jax.random.key(0))
    assert shapes.obs.shape == (3, one.observation_size)
    assert shapes.reward.shape == (3,)
    qpos = jax.jit(three.initial)(jax.random.key(0))[0]
    places = qpos.reshape(3, -1)[:, :2]
    gaps = jnp.linalg.norm(places[:, None] - places, axis=2) + 9 * jnp.eye(3)
    assert gaps.min() >= 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:2])
def test_who_is_far_from_others_is_as_if_alone(name: str):
    """The second of two, from the same state by the same actions: what it sees, earns and
    remembers, and where it is."""
    kinds = {"starts": (0.0, 1.0, 0.0)} if "harder" in name else {}
    one, two = several(name, 1, **kinds), several(name, 2, **kinds)
    step_one, step_two = (jax.jit(lanes.kernel(w.transition)) for w in (one, two))
    all_ = jax.jit(two.reset)(jax.random.key(0))
    alone = jax.jit(one.reset)(jax.random.key(1))

    def its(state: Any) -> Any:
        """The physics and memory of the second one."""
        at = state.carry.physics
        each = lambda x, n: x.reshape(2, n)[1]
        mine = alone.carry.physics._replace(
            qpos=each(at.qpos, one.model.nq),
            qvel=each(at.qvel, one.model.nv),
            qacc_warmstart=each(at.qacc_warmstart, one.model.nv),
        )
        return alone.carry._replace(physics=mine, memory=rows(state.carry.memory, 1))

    alone = alone.replace(carry=its(all_))
    random = np.random.default_rng(0)
    for _ in range(40):
        actions = jnp.asarray(random.uniform(-1, 1, (2, 17)))
        all_, alone = step_two(all_, actions), step_one(alone, actions[1])
        for ours, other in zip(
            jax.tree.leaves(its(all_)._asdict()),
            jax.tree.leaves(alone.carry._asdict()),
            strict=True,
        ):
            if not jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(ours, other, atol=1e-6)
        np.testing.assert_allclose(all_.obs[1], alone.obs, atol=1e-6)
        np.testing.assert_allclose(all_.reward[1], alone.reward, atol=1e-4)
        if all_.terminated or alone.terminated:
            break


@pytest.mark.slow
def test_robots_collide_as_in_c_mujoco():
    """Two that stand face to face are thrown at each other; no part is left out."""
    world = several("humanoid_flagrun", 2)
    mj = world.model.mj
    data, step = converged(mj), jax.jit(lanes.kernel(world.transition))
    own = np.array([mj.body(mj.geom_bodyid[g]).rootid[0] for g in range(mj.ngeom)])
    start, random = jax.jit(world.reset)(jax.random.key(0)), np.random.default_rng(0)
    at = start.carry.physics
    qpos = (
        at.qpos.reshape(2, -1)
        .at[:, :7]
        .set(
            jnp.array(
                [[0, 0, 1.3, 1, 0, 0, 0], [0.5, 0.1, 1.3, 0, 0, 0, 1]]
            )  # the second one turned
        )
    )
    qvel = at.qvel.reshape(2, -1).at[:, 0].set(jnp.array([1.5, -1.5]))
    at = at._replace(qpos=qpos.reshape(-1), qvel=qvel.reshape(-1))
    state, between = start.replace(carry=start.carry._replace(physics=at)), set()
    for _ in range(60):
        actions, before = random.uniform(-1, 1, (2, 17)), state.carry.physics
        state = step(state, jnp.asarray(actions))
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:] = before[:3]
        data.ctrl[:] = actions.ravel()
        for _ in range(4):
            mujoco.mj_step(mj, data)
        pairs = [c.geom for c in data.contact if c.exclude == 0]
        robots = [tuple(g) for g in pairs if 0 < own[g[0]] != own[g[1]] > 0]
        between |= {*robots}
        np.testing.assert_allclose(state.carry.physics.qpos, data.qpos, atol=1e-10)
        np.testing.assert_allclose(state.carry.physics.qvel, data.qvel, atol=1e-8)
        feet = [[mj.geom(f"{p}{s}_foot").id for s in ("right", "left")] for p in ("", "2_")]
        floor = mj.geom("floor").id
        hit = [sum(any(f in g and floor not in g for g in pairs) for f in of) for of in feet]
        assert state.metrics["reward_feet_collision"] == -np.mean(hit)
        assert state.metrics["contacts_dropped"] == 0
    assert len(between) > 5


def test_every_part_of_one_touches_every_part_of_another():
    """And none of its own that it would not touch alone, nor the other one's more than once."""
    alone, world = several("humanoid_flagrun_harder", 1), several("humanoid_flagrun_harder", 3)

    def pairs(mj: mujoco.MjModel) -> list[tuple[int, int]]:
        meets = lambda a, b: bool(
            mj.geom_contype[a] & mj.geom_conaffinity[b]
            | mj.geom_contype[b] & mj.geom_conaffinity[a]
        )
        return [(a, b) for a in range(mj.ngeom) for b in range(a) if meets(a, b)]

    mj, few = world.model.mj, pairs(alone.model.mj)
    number = [  # of the robot that a geom is of: 0 for the floor, of its body's name else
        0 if b == 0 else int(mj.body(b).name.split("_")[0]) if mj.body(b).name[0].isdigit() else 1
        for b in mj.geom_bodyid
    ]
    cube = [mj.body(b).name.endswith("cube") for b in mj.geom_bodyid]
    found = pairs(mj)
    parts = (alone.model.mj.ngeom - 2,) * 3  # but for the floor and the cube
    within = [p for p in found if number[p[0]] == number[p[1]] or 0 in (number[p[0]], number[p[1]])]
    across = [p for p in found if p not in within]
    assert len(within) == 3 * len(few)
    bodies = [p for p in across if not (cube[p[0]] or cube[p[1]])]
    assert len(bodies) == 3 * parts[0] * parts[1]
    thrown = [p for p in across if cube[p[0]] != cube[p[1]]]
    assert len(thrown) == 6 * parts[0]  # each cube, and each of the two others
    assert len(across) == len(bodies) + len(thrown)  # cubes do not meet


@pytest.mark.slow
def test_the_episode_ends_for_all_and_says_who_failed():
    """The second of two lies limp for too long: it is told so, and the first one nothing."""
    world = several("humanoid_flagrun_harder", 2)
    state = jax.jit(world.reset)(jax.random.key(0))
    memory = state.carry.memory._replace(
        pose=jnp.array([1, 2], jnp.int32),
        steps=jnp.array([400, 400], jnp.int32),
        down=jnp.array([0, harder.GROUNDED - 1], jnp.int32),
    )
    lying = state.carry.physics.qpos.reshape(2, -1).at[:, 2].set(jnp.array([1.3, 0.3]))
    at = state.carry.physics._replace(qpos=lying.reshape(-1))
    state = state.replace(carry=state.carry._replace(physics=at, memory=memory))
    after = jax.jit(world.step)(state, jnp.zeros((2, 17)))
    assert after.terminated
    assert after.metrics["reward_alive"] < 1  # the mean of -1 and less than 2
    start_after = jax.jit(lanes.kernel(world.start_after))
    again = start_after(jax.random.key(1), after).carry.memory
    np.testing.assert_array_equal(again.outcomes.count, [[0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(again.outcomes.survived, 0)
    in_time = after.replace(terminated=jnp.array(False), truncated=jnp.array(True))
    down = jnp.array([3, 5], jnp.int32)
    in_time = in_time.replace(
        carry=in_time.carry._replace(memory=in_time.carry.memory._replace(down=down))
    )
    both = start_after(jax.random.key(1), in_time).carry.memory
    np.testing.assert_array_equal(both.outcomes.survived, [[0, 1, 0], [0, 0, 1]])


def test_each_has_its_cube_and_its_flag():
    world = several("humanoid_flagrun_harder", 2)
    state = jax.jit(world.reset)(jax.random.key(0))
    memory = state.carry.memory._replace(throw=jnp.array([False, True]))
    assert jnp.abs(memory.run.flag[0] - memory.run.flag[1]).max() > 0.1
    at = state.carry.physics
    before: Any = type("Before", (), {"state": at, "memory": memory})
    thrown = world.disturb(before)
    changed = (thrown.qpos != at.qpos).reshape(2, -1)
    assert not changed[0].any()
    np.testing.assert_array_equal(np.flatnonzero(changed[1])[:3], np.arange(24, 27))
    robot, cube = thrown.qpos.reshape(2, -1)[1, :3], thrown.qpos.reshape(2, -1)[1, 24:27]
    np.testing.assert_allclose(jnp.hypot(*(cube - robot)[:2]), 4, atol=1e-9)
    speeds = jnp.linalg.norm(thrown.qvel.reshape(2, -1)[:, -6:-3], axis=1)
    assert speeds[0] == 0
    assert 18 < speeds[1] < 32


@pytest.mark.slow
def test_worlds_of_several_restart():
    worlds = autoreset(several("humanoid_flagrun", 2), 8, episode_length=50)
    state, step = jax.jit(worlds.reset)(jax.random.key(0)), jax.jit(worlds.step)
    for k in range(60):
        actions = jax.random.uniform(jax.random.key(k), (8, 2, 17), minval=-1.0)
        state = step(state, actions)
    assert state.obs.shape == (16, 44)
    assert state.totals.count > 0
    assert jnp.isfinite(state.reward).all()


def test_no_robots_are_refused():
    for robots in (0, 17):
        with pytest.raises(
            ValueError, match=f"robots is {robots}, not a whole number from 1 to 16"
        ):
            several("humanoid_flagrun", robots)
    with pytest.raises(ValueError, match=r"350, not few enough to leave .*: \d+ for 9 robots"):
        several("humanoid_flagrun_rough", 9, obstacles=350).model.nq  # noqa: B018
