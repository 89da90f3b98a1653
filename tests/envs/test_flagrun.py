"""Roboschool's humanoids against its formulas, on what C MuJoCo computes from the same states."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim import lanes
from gpusim.envs import autoreset
from gpusim.envs.tasks.roboschool import harder
from gpusim.envs.tasks.roboschool.harder import Outcomes
from gpusim.envs.tasks.roboschool.humanoid import Body


@pytest.fixture(autouse=True)
def x64():
    """Double precision: a wrong formula cannot hide."""
    with jax.enable_x64(True):
        yield


def euler(quat: np.ndarray) -> tuple[float, float, float]:
    """Roll, pitch, yaw from the rotation matrix."""
    m = np.zeros(9)
    mujoco.mju_quat2Mat(m, quat)
    return np.arctan2(m[7], m[8]), -np.arcsin(m[6]), np.arctan2(m[3], m[0])


class Oracle:
    """gym_forward_walker.py and gym_humanoid_flagrun.py, in the order in which they compute."""

    def __init__(self, model: mujoco.MjModel, joints: int, dt: float):
        self.m, self.d, self.n, self.dt = model, mujoco.MjData(model), joints, dt

    def step(self, before: Any, ctrl: np.ndarray, frames: int) -> None:
        d = self.d
        d.qpos[:], d.qvel[:], d.qacc_warmstart[:] = before.qpos, before.qvel, before.qacc_warmstart
        d.ctrl[:] = ctrl
        for _ in range(frames):
            mujoco.mj_step(self.m, d)

    def relative(self) -> np.ndarray:
        low, high = self.m.jnt_range[1 : 1 + self.n].T
        return 2 * (self.d.qpos[7 : 7 + self.n] - (low + high) / 2) / (high - low)

    def place(self, bodies: int) -> np.ndarray:
        return self.d.xpos[1 : 1 + bodies, :2].mean(0)

    def observation(self, flag: np.ndarray, feet: np.ndarray, bodies: int) -> np.ndarray:
        d = self.d
        roll, pitch, yaw = euler(d.qpos[3:7])
        to = flag - self.place(bodies)
        angle = np.arctan2(to[1], to[0]) - yaw
        turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        vx, vy = turn @ d.qvel[:2]
        head = [d.qpos[2] - 0.8, np.sin(angle), np.cos(angle), 0.3 * vx, 0.3 * vy, 0.3 * d.qvel[2]]
        joints = np.stack([self.relative(), 0.1 * d.qvel[6 : 6 + self.n]], 1).ravel()
        return np.clip(np.concatenate([head, [roll, pitch], joints, feet]), -5, 5)

    def touched(self, foot: str) -> set[int]:
        me = self.m.geom(foot).id
        pairs = [{*c.geom} for c in self.d.contact if c.exclude == 0]
        return set().union(*(pair - {me} for pair in pairs if me in pair))


@pytest.mark.parametrize("ankles", [False, True])
def test_what_is_seen_and_paid_is_roboschool_s(ankles: bool):
    world: Any = gpusim.make("humanoid_flagrun", ankles=ankles)
    joints, bodies = 17 + 4 * ankles, world.model.nbody - 1
    assert (world.model.nq, world.action_size, world.dt) == (7 + joints, joints, 0.0165)
    mj = world.model.mj
    mj.opt.iterations = 100
    oracle, random = Oracle(mj, joints, world.dt), np.random.default_rng(0)
    floor = mj.geom("floor").id
    step, state = jax.jit(lanes.kernel(world.transition)), jax.jit(world.reset)(jax.random.key(3))
    for k in range(60):
        past, action = state.carry.memory, random.uniform(-1, 1, joints)
        oracle.step(state.carry.physics, action, 4)
        before = np.linalg.norm(past.flag - oracle.place(bodies)) / world.dt
        state = step(state, jnp.asarray(action))
        memory = state.carry.memory
        np.testing.assert_allclose(
            state.obs, oracle.observation(memory.flag, past.feet, bodies), atol=1e-5
        )
        touched = [oracle.touched(f"{side}_foot") for side in ("right", "left")]
        np.testing.assert_array_equal(memory.feet, [floor in t for t in touched])
        speeds = 0.1 * oracle.d.qvel[6 : 6 + joints]
        expected = {
            "alive": 2.0 if oracle.d.qpos[2] > 0.78 else -1.0,
            "progress": 0.0 if memory.moved else -before - past.potential,
            "electricity": -4.25 * np.abs(action * speeds).mean() - 0.425 * (action**2).mean(),
            "joints_at_limit": -0.2 * (np.abs(oracle.relative()) > 0.99).sum(),
            "feet_collision": -1.0 * sum(bool(t - {floor}) for t in touched),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(state.metrics[f"reward_{name}"], value, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(state.reward, sum(expected.values()), atol=1e-4)
        assert bool(state.terminated) == (oracle.d.qpos[2] <= 0.78)
        if k == 40:  # as if the flag stood here
            here = jnp.asarray(oracle.place(bodies)) + 0.5
            changed = memory._replace(flag=here, potential=-jnp.linalg.norm(here) / world.dt)
            state = state.replace(carry=state.carry._replace(memory=changed))
        assert k != 41 or memory.moved


def a_body(world: Any, z: float = 1.3, pelvis: float = 0.9) -> Body:
    """A robot that stands at the middle of the stadium, its torso and pelvis at these heights."""
    model = world.model
    return Body(
        qpos=jnp.asarray(model.mj.qpos0).at[2].set(z),
        qvel=jnp.zeros(model.nv),
        parts=jnp.zeros((13, 3)).at[2, 2].set(pelvis),
        ctrl=jnp.zeros(model.nu),
        ground=jnp.zeros(()),
        feet=jnp.zeros(2),
        knocked=jnp.zeros(()),
    )


def test_a_flag_that_is_not_reached_moves():
    world: Any = gpusim.make("humanoid_flagrun")
    start = jax.jit(world.reset)(jax.random.key(0))
    memory = start.carry.memory._replace(flag=jnp.asarray([50.0, 0.0]))
    moves = []
    for _ in range(300):
        memory = world.recalled(memory, a_body(world))
        moves.append(bool(memory.moved))
        if memory.moved:
            assert (jnp.abs(memory.flag) <= jnp.asarray([26.25, 12.5]) / 2).all()
            memory = memory._replace(flag=jnp.asarray([50.0, 0.0]))
    assert [k + 1 for k, moved in enumerate(moves) if moved] == [149, 299]


class Crawl:
    """calc_potential of gym_humanoid_flagrun.py."""

    start: float | None = None
    ignored = 0.0

    def potential(self, z: float, pelvis: float, progress: float) -> float:
        if z < 0.8:
            if self.start is None:
                self.start = progress - self.ignored
            self.ignored = progress - self.start
            progress = self.start
        else:
            progress -= self.ignored
            self.start = None
        return progress + 100 * (0.5 + 1.5 * np.clip(0.7 * z + 0.3 * pelvis, 0, 0.7) / 0.7)


def test_progress_on_the_ground_does_not_count():
    world: Any = gpusim.make("humanoid_flagrun_harder")
    oracle, random = Crawl(), np.random.default_rng(0)
    start = jax.jit(world.reset)(jax.random.key(1))
    memory = start.carry.memory._replace(
        crawls=jnp.asarray(False), begun=jnp.zeros(()), ignored=jnp.zeros(())
    )
    low = False
    for _ in range(200):
        low ^= random.random() < 0.1
        z, below, progress = (
            random.uniform(*((0.1, 0.8) if low else (0.8, 1.3))),
            0.4,
            random.normal(),
        )
        memory = world._crawling(memory, jnp.asarray(progress), a_body(world, z, below))
        expected = oracle.potential(z, below, progress)
        np.testing.assert_allclose(memory.run.potential, expected, atol=1e-9)


def test_episodes_start_standing_or_lying():
    world: Any = gpusim.make("humanoid_flagrun_harder", starts=(1.0, 2.0, 1.0))
    keys = jax.random.split(jax.random.key(0), 400)
    qpos, qvel = jax.jit(jax.vmap(world.initial))(keys)
    heights, counts = np.unique(np.round(qpos[:, 2], 3), return_counts=True)
    np.testing.assert_allclose(heights, [0.22, 0.45, 1.4])
    np.testing.assert_allclose(counts / 400, [0.25, 0.5, 0.25], atol=0.08)
    assert not qvel.any()
    for q in np.asarray(qpos)[:50]:
        m = np.zeros(9)
        mujoco.mju_quat2Mat(m, q[3:7])
        faces, up = m[[0, 3, 6]], m[[2, 5, 8]]  # the torso's x and z axes
        if q[2] > 1:
            assert up[2] > 0.999
            assert abs(np.arctan2(faces[1], faces[0])) <= np.pi / 16
        else:  # on the front it faces down, on the back up
            assert abs(up[2]) < 0.2
            assert (faces[2] < -0.9) == (round(q[2], 2) == 0.45)


# Roboschool's RepeatUnderlearnedTasks, on lists: for each pose the last ten episodes.
def failures(outcomes: list[list[bool]]) -> np.ndarray:
    return np.array([1 - np.count_nonzero(of[-10:]) / (1.0 + len(of[-10:])) for of in outcomes])


def test_what_was_survived_lately_is_counted_as_roboschool_does():
    found, lists = Outcomes.none(), [[], [], []]
    np.testing.assert_array_equal(found.failures(), [1, 1, 1])
    random = np.random.default_rng(0)
    for _ in range(60):
        pose, survived, counts = random.integers(3), random.random() < 0.6, random.random() < 0.9
        found = found.after(jnp.asarray(pose), jnp.asarray(survived), jnp.asarray(counts))
        if counts:
            lists[pose].append(survived)
        np.testing.assert_allclose(found.failures(), failures(lists))
    assert min(map(len, lists)) > 10  # and those before are forgotten


def test_the_pose_that_is_failed_in_is_begun_from():
    """Standing was survived ten times, lying on the front five times of nine, and on the back
    never: failed in by 1/11, 1/2 and 1, times the options."""
    outcomes = Outcomes(jnp.array([10, 9, 3]), jnp.array([0b1111111111, 0b101010101, 0]))
    for starts in [(1.0, 1.0, 1.0), (4.0, 0.0, 1.0)]:
        world: Any = gpusim.make("humanoid_flagrun_harder", starts=starts)
        draw = lambda key, world=world: world._drawn(key, outcomes)[0][2]
        heights = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 2000))
        found = [np.mean(np.isclose(heights, h)) for h in (1.4, 0.45, 0.22)]
        expected = np.array([1 / 11, 1 / 2, 1]) * starts
        np.testing.assert_allclose(found, expected / expected.sum(), atol=0.04)


def an_end(world: Any, *, pose: int, steps: int, down: int, truncated: bool) -> Any:
    """A state in which an episode has ended that began in a pose."""
    state = jax.jit(world.reset)(jax.random.key(0))
    memory = state.carry.memory
    before = Outcomes(jnp.full_like(memory.outcomes.count, 2), memory.outcomes.survived)
    whole = lambda x, like: jnp.full_like(like, x)
    memory = memory._replace(
        outcomes=before,
        pose=whole(pose, memory.pose),
        steps=whole(steps, memory.steps),
        down=whole(down, memory.down),
    )
    return state.replace(
        carry=state.carry._replace(memory=memory),
        terminated=jnp.asarray(not truncated),
        truncated=jnp.asarray(truncated),
    )


@pytest.mark.parametrize(
    ("pose", "steps", "down", "truncated", "count", "survived"),
    [
        (1, 1000, 0, True, [2, 3, 2], [0, 1, 0]),  # the time is up
        (2, 400, 170, False, [2, 2, 3], [0, 0, 0]),  # too long on the ground
        (0, 30, 10_001, False, [3, 2, 2], [0, 0, 0]),  # fell
        (1, 169, 169, True, [2, 2, 2], [0, 0, 0]),  # could not yet be failed
        (1, 300, 0, False, [2, 2, 2], [0, 0, 0]),  # its numbers were not finite
    ],
)
def test_what_an_end_says(pose, steps, down, truncated, count, survived):
    world: Any = gpusim.make("humanoid_flagrun_harder")
    ended = an_end(world, pose=pose, steps=steps, down=down, truncated=truncated)
    memory = jax.jit(lanes.kernel(world.start_after))(jax.random.key(1), ended).carry.memory
    np.testing.assert_array_equal(memory.outcomes.count, count)
    np.testing.assert_array_equal(memory.outcomes.survived, survived)
    assert (memory.steps, memory.down) == (0, 0)  # nothing else survives
    told: Any = gpusim.make("humanoid_flagrun_harder", relearn=False)
    forgotten = jax.jit(lanes.kernel(told.start_after))(jax.random.key(1), ended).carry.memory
    np.testing.assert_array_equal(forgotten.outcomes.count, [0, 0, 0])


def test_the_pose_of_a_start_is_known():
    for pose in range(3):
        starts = tuple(float(k == pose) for k in range(3))
        world: Any = gpusim.make("humanoid_flagrun_harder", starts=starts)
        memory = jax.jit(world.reset)(jax.random.key(pose)).carry.memory
        assert memory.pose == pose


@pytest.mark.slow
def test_worlds_that_restart_learn_of_their_past():
    """Limp bodies: who stands falls, who lies does not get up, and all is known of it."""
    world: Any = gpusim.make("humanoid_flagrun_harder")
    worlds = autoreset(world, 16, episode_length=400)
    state, step = jax.jit(worlds.reset)(jax.random.key(0)), jax.jit(worlds.step)
    lists: list[Any] = [[[], [], []] for _ in range(16)]
    for _ in range(600):
        before, state = state, step(state, jnp.zeros((16, 17)))
        ended = np.flatnonzero(state.terminated | state.truncated)
        for k in ended:
            memory = before.world.carry.memory
            if state.terminated[k] or memory.steps[k] + 1 >= harder.GROUNDED:
                lists[k][int(memory.pose[k])].append(bool(state.truncated[k]))
        known = jax.vmap(Outcomes.failures)(state.world.carry.memory.outcomes)
        np.testing.assert_allclose(known, [failures(of) for of in lists])
    assert sum(len(of) for each in lists for of in each) > 40


def test_starts_that_are_none_are_refused():
    for starts in [(0.0, 0.0, 0.0), (-1.0, 2.0, 1.0), (np.inf, 1.0, 1.0)]:
        with pytest.raises(ValueError, match="not three numbers from 0 on"):
            gpusim.make("humanoid_flagrun_harder", starts=starts)


def test_a_cube_flies_to_where_the_body_will_be():
    world: Any = gpusim.make("humanoid_flagrun_harder")
    state = jax.jit(world.reset)(jax.random.key(0))
    at = state.carry.physics
    at = at._replace(qvel=at.qvel.at[:3].set(jnp.asarray([3.0, 0.0, 0.0])))
    before = lambda throw: SimpleNamespace(
        state=at, memory=state.carry.memory._replace(throw=jnp.asarray(throw))
    )
    quiet, thrown = world.disturb(before(False)), world.disturb(before(True))
    np.testing.assert_array_equal(quiet.qpos, at.qpos)
    np.testing.assert_array_equal(thrown.qpos[:-7], at.qpos[:-7])
    np.testing.assert_array_equal(thrown.qvel[:-6], at.qvel[:-6])
    away, velocity = thrown.qpos[-7:-4] - at.qpos[:3], thrown.qvel[-6:-3]
    speed = jnp.linalg.norm(velocity)
    assert 18 < speed < 32
    times = [4 / s for s in np.linspace(20, 30, 101)]  # of which one is the draw's
    assert min(float(jnp.abs(jnp.hypot(away[0] - 3 * t, away[1]) - 4)) for t in times) < 0.01
    np.testing.assert_allclose(away[2], 1.0, atol=1e-9)
    toward = -away + jnp.asarray([0.4, 0, 0])
    assert velocity @ toward > 0.9 * speed * jnp.linalg.norm(toward)


def test_a_fall_ends_an_episode_that_began_standing():
    world: Any = gpusim.make("humanoid_flagrun_harder")
    step = jax.jit(lanes.kernel(world.transition))
    lying: Any = gpusim.make("humanoid_flagrun_harder", starts=(0.0, 1.0, 0.0))
    state, count = jax.jit(lying.reset)(jax.random.key(0)), 0
    while not state.terminated and count < 400:
        state, count = step(state, jnp.zeros(17)), count + 1
    assert count == harder.GROUNDED
    assert state.metrics["reward_alive"] == -1
    standing: Any = gpusim.make("humanoid_flagrun_harder", starts=(1.0, 0.0, 0.0))
    state, heights = jax.jit(standing.reset)(jax.random.key(0)), []
    while not state.terminated:
        state = step(state, jnp.zeros(17))
        heights.append(float(state.carry.physics.qpos[2]))
    assert heights[-1] < 0.8 <= min(heights[:-1])
