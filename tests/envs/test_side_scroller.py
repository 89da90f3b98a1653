"""The side-scroller: its levels, how the runner moves, and that pictures show just that."""
# mujoco's compiled modules come without type stubs:
# pyright: reportAttributeAccessIssue=false

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import gpusim
from gpusim.envs.tasks.pixels import levels
from gpusim.envs.tasks.pixels.levels import COLUMNS, GOAL, WALL, Level
from gpusim.envs.tasks.pixels.side_scroller import CHOICES, LEFT_OF, SHOWN, SIZE, SideScroller

LEFT, RIGHT, JUMP, _, RIGHT_JUMP, DUCK, RIGHT_DUCK = range(7)
START = 40  # pixels, of the runner's left side


def level_of(ground: dict[int, int] | None = None, slab: dict[int, int] | None = None) -> Level:
    """One level: ground of height 2, but for these columns."""
    one = Level(np.full((1, COLUMNS), 2.0), np.zeros((1, COLUMNS)))
    one.ground[:, :WALL] = 10
    for array, changes in ((one.ground, ground), (one.slab, slab)):
        for column, height in (changes or {}).items():
            array[:, column] = height
    return one


def played(level: Level, choices: list[int], x: float = START, vx: float = 0.0) -> Any:
    """The states (steps,) after each choice, from the start of this level on, or from elsewhere."""
    padded = jnp.array(choices + [DUCK] * (40 - len(choices)))
    return jax.tree.map(lambda x: np.asarray(x[: len(choices)]), _played(level, padded, x, vx))


@jax.jit
def _played(level: Level, choices: jax.Array, x: jax.Array, vx: jax.Array) -> Any:
    world: Any = SideScroller(num_levels=1)
    vars(world)["map"] = level  # in place of what it would draw

    def step(state, choice):
        state = world.transition(state, choice)
        return state, state

    start = world.start(jax.random.key(0))
    carry = start.carry._replace(x=jnp.full(4, x), vx=vx, far=x)
    return jax.lax.scan(step, start.replace(carry=carry), choices)[1]


def test_choices_are_seven():
    assert len(CHOICES) == SideScroller.action_space.n == 7
    assert (CHOICES[RIGHT_JUMP], CHOICES[DUCK]) == ("right and jump", "duck")


def test_a_level_is_its_number():
    for array, again in zip(levels.level(7), levels.level(7), strict=True):
        np.testing.assert_array_equal(array, again)
    training, held_out = (
        gpusim.make("side_scroller"),
        gpusim.make("side_scroller", levels="held-out"),
    )
    maps: Any = [np.concatenate(world.map, axis=1) for world in (training, held_out)]  # type: ignore[attr-defined]
    assert len(np.unique(np.concatenate(maps), axis=0)) == 200


def test_levels_begin_with_a_wall_and_end_with_ground():
    ground, slab = levels.levels(0, 50)
    assert (ground[:, :WALL] == 10).all()
    assert (ground[:, GOAL:] > 0).all()
    assert ground[:, WALL:].max() <= 6
    assert (slab[:, GOAL:] == 0).all()
    assert slab.max() <= 5
    holes = ground[:, WALL:] == 0
    assert holes.any(1).all()
    assert (slab > 0).any(1).all()


@pytest.mark.parametrize("options", [{"levels": "easy"}, {"num_levels": 0}, {"num_levels": 4001}])
def test_levels_that_are_none_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        gpusim.make("side_scroller", **options)


def test_it_runs_up_to_five_pixels_a_step():
    seen = played(level_of(), [RIGHT] * 7 + [DUCK] * 6)
    x = START + np.cumsum([1, 2, 3, 4, 5, 5, 5, 4, 3, 2, 1, 0, 0])
    np.testing.assert_array_equal(seen.carry.x[:, 0], x)
    np.testing.assert_allclose(seen.reward, 0.01 * np.diff([START, *x]), atol=1e-7)
    np.testing.assert_array_equal(seen.metrics["distance"], x - START)
    np.testing.assert_array_equal(seen.carry.x[-1], x[::-1][:4])


def test_a_jump_by_hand():
    """21 pixels high; 13 steps long, in which it makes 65 pixels at full speed."""
    seen = played(level_of(), [RIGHT] * 6 + [RIGHT_JUMP] + [RIGHT] * 13)
    height = np.cumsum([6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6])
    np.testing.assert_array_equal(seen.carry.y[6:19, 0], 16 + height)
    assert seen.carry.y[19, 0] == 16
    assert seen.carry.x[18, 0] - seen.carry.x[5, 0] == 65


def test_it_does_not_jump_in_the_air():
    seen = played(level_of(), [JUMP] * 10)
    np.testing.assert_array_equal(
        seen.carry.y[:, 0], 16 + np.cumsum([6, 5, 4, 3, 2, 1, 0, -1, -2, -3])
    )


def test_a_wall_stops_it_and_going_back_earns_nothing():
    seen = played(level_of({8: 3}), [RIGHT] * 12 + [LEFT] * 20)
    assert seen.carry.x[11, 0] == 8 * 8 - 6
    assert seen.carry.vx[11] == 0
    assert seen.carry.x[-1, 0] == WALL * 8  # the wall at the left end
    np.testing.assert_array_equal(seen.reward[12:], 0)
    assert not seen.terminated.any()


def test_it_climbs_two_tiles_and_not_three():
    for height, climbs in ((4, True), (5, False)):
        block = dict.fromkeys(range(8, 12), height)
        seen = played(level_of(block), [RIGHT] * 10 + [RIGHT_JUMP] * 10)
        assert (seen.carry.x[-1, 0] > 8 * 8) == climbs
        if climbs:
            assert seen.carry.y[:, 0].max() > 8 * height


def test_falling_into_a_gap_is_the_end():
    gap = dict.fromkeys(range(8, 12), 0)
    seen = played(level_of(gap), [RIGHT] * 18)
    end = int(np.argmax(seen.terminated))
    assert seen.terminated[end]
    assert seen.carry.y[end, 0] < 0 <= seen.carry.y[end - 1, 0]
    assert 64 < seen.carry.x[end, 0] <= 12 * 8 - 6
    over = played(level_of(gap), [RIGHT] * 5 + [RIGHT_JUMP] + [RIGHT] * 14)
    assert not over.terminated.any()
    assert over.carry.x[-1, 0] > 96


def test_an_island_bears():
    gap, island = dict.fromkeys(range(7, 21), 0), dict.fromkeys(range(13, 17), 1)
    seen = played(level_of(gap, island), [RIGHT] * 5 + [RIGHT_JUMP] + [RIGHT] * 11 + [LEFT] * 8)
    assert seen.carry.y[-1, 0] == 8 * (1 + 2)
    assert not seen.terminated.any()


def test_only_who_ducks_goes_through_a_tunnel():
    level = level_of(slab=dict.fromkeys(range(8, 12), 3))
    assert played(level, [RIGHT] * 15).carry.x[-1, 0] == 8 * 8 - 6
    seen = played(level, [RIGHT_DUCK] * 10 + [RIGHT] * 30)
    tall, x = seen.carry.tall[:, 0], seen.carry.x[:, 0]
    under = (x + 6 > 8 * 8) & (x < 8 * 12)
    assert x[-1] > 8 * 12
    assert (tall[1:][under[:-1] & under[1:]] == 7).all()  # it cannot stand up in there
    assert tall[-1] == 12


def test_a_slab_stops_a_jump():
    seen = played(level_of(slab=dict.fromkeys(range(20), 4)), [JUMP] + [DUCK] * 6)
    assert seen.carry.y[0, 0] == 8 * 4 - 12
    assert seen.carry.vy[0] == 0
    assert seen.carry.y[-1, 0] == 16


def test_the_goal_is_the_end():
    seen = played(level_of(), [RIGHT, RIGHT], x=8.0 * GOAL - 7, vx=5.0)
    np.testing.assert_array_equal(seen.carry.x[:, 0], [8 * GOAL - 2, 8 * GOAL + 3])
    np.testing.assert_array_equal(seen.terminated, [False, True])
    np.testing.assert_allclose(seen.reward, [0.05, 0.02], atol=1e-7)  # not what is beyond it


WORLD: Any = SideScroller(num_levels=20)


@functools.cache
def episodes(count: int = 32, steps: int = 60) -> list[Any]:
    """States of many worlds after each step by the same hand that mostly runs and jumps; each is
    what plain JAX says of the one before."""
    world = WORLD
    step, plain = jax.jit(jax.vmap(world.step)), jax.jit(jax.vmap(world.transition))
    state = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), count))
    draw, seen = np.random.default_rng(0), [state]
    for _ in range(steps):
        choice = jnp.array(draw.choice(7, count, p=[0.03, 0.3, 0.05, 0.02, 0.4, 0.05, 0.15]))
        expected, state = plain(state, choice), step(state, choice)
        wanted = (expected.carry, expected.obs, expected.reward, expected.terminated)
        found = (state.carry, state.obs, state.reward, state.terminated)
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
        seen.append(state)
    return seen


def test_pictures_show_what_it_collides_with():
    """Against a level painted pixel by pixel, of which each picture is a part; the runner is never
    inside anything. And lanes step as plain JAX does."""
    world, tall, wide = WORLD, SIZE + 40, COLUMNS * 8
    painted = np.zeros((20, tall, wide), bool)  # from below
    for grid, ground, slab in zip(painted, *world.map, strict=True):
        for column in range(COLUMNS):
            at = slice(8 * column, 8 * column + 8)
            grid[: 8 * int(ground[column]), at] = True
            if slab[column]:
                grid[8 * int(slab[column]) : 8 * int(slab[column]) + 16, at] = True
    seen = episodes()
    draw = jax.jit(jax.vmap(world.picture))
    shown, fell, ducked = 0, np.zeros(32, bool), 0
    for t in range(3, len(seen)):
        fell |= np.asarray(seen[t].terminated)
        if t % 4:
            continue
        pictures = np.asarray(draw(seen[t].obs))
        for i in np.flatnonzero(~fell):
            for k in range(4):
                runner = jax.tree.map(lambda x, i=i: np.asarray(x[i]), seen[t - k].carry)
                x, y, high = (int(v[0]) for v in (runner.x, runner.y, runner.tall))
                grid = painted[runner.level]
                assert not grid[y : y + high, x : x + 6].any()
                part = np.where(grid[:SIZE, x - LEFT_OF : x - LEFT_OF + SIZE], 0.5, 0.0)
                part[y : y + high, LEFT_OF : LEFT_OF + 6] = 1.0
                np.testing.assert_array_equal(pictures[i, ..., k], part[::-1])
                shown, ducked = shown + 1, ducked + (high == 7)
    assert shown > 1000
    assert ducked > 50


def test_numbers_outside_the_pictures_are_not_seen():
    """The policy looks at the picture: what is not on it changes nothing."""
    obs, draw = np.array(episodes()[0].obs[0]), jax.jit(WORLD.picture)
    assert obs[26] == 0  # all cameras are at the first column's edge
    before = draw(obs)
    for outside in (10, 11, 12, 23, 24, 25):
        obs[outside] += 8
    np.testing.assert_array_equal(draw(obs), before)
    obs[9] += 8
    assert (draw(obs) != before).any()


def furthest(world: Any, levels: Iterable[int], width: int = 300) -> dict[int, float]:
    """How far, in each level, a search gets that goes on from the furthest `width` states of every
    step."""

    @jax.jit
    def grown(state):
        every = jax.tree.map(lambda x: jnp.repeat(x, 7, axis=0), state)
        return jax.vmap(world.transition)(every, jnp.tile(jnp.arange(7), width))

    found, first = {}, world.start(jax.random.key(0))
    for level in levels:
        start = first.replace(carry=first.carry._replace(level=jnp.int32(level)))
        state = jax.tree.map(lambda x: np.stack([x] * width), start)
        for _ in range(450):
            state = jax.tree.map(np.asarray, grown(state))
            runner = state.carry
            x = runner.x[:, 0]
            now = np.stack([x, runner.y[:, 0], runner.tall[:, 0], runner.vx, runner.vy], axis=1)
            lives = np.flatnonzero(~state.terminated | (x >= GOAL * 8))
            one_of_each = lives[np.unique(now[lives], axis=0, return_index=True)[1]]
            best = np.resize(one_of_each[np.argsort(-x[one_of_each])][:width], width)
            state = jax.tree.map(lambda x, best=best: x[best], state)
            found[level] = float(x[best].max())
            if found[level] >= GOAL * 8:
                break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["training", "held-out"])
def test_levels_can_be_finished(kind):
    far = furthest(gpusim.make("side_scroller", levels=kind), range(20))
    assert len(far) == 20
    assert {level: x for level, x in far.items() if x < GOAL * 8} == {}


def test_the_replay_shows_the_level():
    world, state = WORLD, episodes()[30]
    model = world.drawing()
    data, pose = mujoco.MjData(model), jax.jit(world.pose)
    for i in range(8):
        one = jax.tree.map(lambda x, i=i: x[i], state)
        data.qpos[:] = pose(one)
        mujoco.mj_kinematics(model, data)
        low, high = data.geom_xpos - model.geom_size, data.geom_xpos + model.geom_size
        runner, columns = slice(1, 3), slice(3, None)  # the floor is the first geom
        x, y, tall = (float(v[0]) / 8 for v in (one.carry.x, one.carry.y, one.carry.tall))
        np.testing.assert_allclose(low[runner].min(0)[[0, 2]], [x, y], atol=1e-6)
        np.testing.assert_allclose(high[runner].max(0)[[0, 2]], [x + 0.75, y + tall], atol=1e-6)
        left = low[columns][::2, 0]
        assert sorted(left) == [np.floor(x) - SHOWN // 3 + k for k in range(SHOWN)]
        ground = world.map.ground[int(one.carry.level)]
        expected = np.minimum(ground[np.clip(left, 0, COLUMNS - 1).astype(int)], 6)
        expected = np.where(expected > 0, expected, -1.5)  # the floor hides it
        np.testing.assert_allclose(high[columns][::2, 2], expected, atol=1e-6)
