"""Games of stable-retro: what is told is what its own emulator says."""

from typing import Any

import jax
import numpy as np
import pytest

retro = pytest.importorskip("stable_retro")

import gpusim  # noqa: E402
from gpusim.envs import retro_emulator  # noqa: E402

GAME = "Airstriker-Genesis-v0"  # its ROM comes with stable-retro
CHOICES = "NOTHING LEFT RIGHT B LEFT+B"


def test_rewards_and_pictures_are_the_emulators():
    world = gpusim.make(f"retro:{GAME}", height=56, width=80, frames=2, choices=CHOICES)
    batch = world.batch(2)
    state = jax.jit(batch.reset)(jax.random.split(jax.random.key(0), 2))
    step = jax.jit(batch.step)

    env = retro.make(GAME, render_mode="rgb_array")  # pictures of 224 x 320
    pressed = [choice.split("+") for choice in CHOICES.split()]
    grey = lambda obs: np.rint(
        (obs @ np.array([0.299, 0.587, 0.114])).reshape(56, 4, 80, 4).mean((1, 3))
    )
    before, (obs, _) = np.zeros((56, 80)), env.reset(seed=0)
    earned = 0.0
    for choice in np.random.default_rng(0).integers(0, len(pressed), 100).repeat(10):
        state = step(state, np.array([choice, 0]))
        before = grey(obs)
        obs, reward, *ended, _ = env.step([button in pressed[choice] for button in env.buttons])
        assert float(state.reward[0]) == reward
        assert [bool(state.terminated[0]), bool(state.truncated[0])] == ended
        picture = 255 * np.asarray(world.picture(state.obs[0]))
        assert np.abs(picture - np.stack([grey(obs), before], -1)).max() <= 1.001  # of rounding
        earned += reward
    assert earned > 0
    env.close()


def test_a_choice_is_held_and_what_it_earns_is_added():
    fast = gpusim.make(f"retro:{GAME}", choices=CHOICES).batch(1)
    held = gpusim.make(f"retro:{GAME}", choices=CHOICES, frame_skip=4).batch(1)
    key = jax.random.split(jax.random.key(0), 1)
    one, four = fast.reset(key), held.reset(key)
    step, jump = jax.jit(fast.step), jax.jit(held.step)
    for choice in np.random.default_rng(1).integers(0, 5, 60):
        earned = 0.0
        for _ in range(4):
            one = step(one, np.array([choice]))
            earned += float(one.reward[0])
        four = jump(four, np.array([choice]))
        assert float(four.reward[0]) == earned
        np.testing.assert_array_equal(four.obs.reshape(-1, 4)[:, 0], one.obs.reshape(-1, 4)[:, 0])


def test_pictures_of_any_size_are_shrunk():
    """Consoles may change what they show while a game goes on."""
    for shape in (224, 320), (448, 256), (30, 20):
        obs = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        found = retro_emulator.shrunk(obs, 56, 80)
        times = 56 // np.gcd(shape[0], 56), 80 // np.gcd(shape[1], 80)  # so that areas are whole
        fine = (obs @ np.array([0.299, 0.587, 0.114])).repeat(times[0], 0).repeat(times[1], 1)
        mean = fine.reshape(56, fine.shape[0] // 56, 80, fine.shape[1] // 80).mean((1, 3))
        assert np.abs(found - mean).max() < 0.501


def test_a_state_is_that_which_the_game_begins_with():
    same = [gpusim.make(f"retro:{GAME}", **o) for o in ({}, {"state": "Level1"})]
    keys = jax.random.split(jax.random.key(0), 1)
    plain, said = (np.asarray(world.batch(1).reset(keys).obs) for world in same)
    np.testing.assert_array_equal(plain, said)


def test_an_emulator_that_is_killed_is_told():
    world: Any = gpusim.make(f"retro:{GAME}")
    emulators: Any = world.copies(1)
    emulators.restart(np.zeros(1, np.uint32), np.ones(1, bool))
    emulators.games[0]._process.kill()
    with pytest.raises(RuntimeError, match="the emulator has ended: killed by SIGKILL"):
        emulators.step(np.zeros(1, np.int32))


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("Airstrike", {}, "did you mean 'Airstriker-Genesis-v0'"),
        ("1942-Nes-v0", {}, "has no ROM of it; import yours"),
        (GAME, {"choices": "LEFT FIRE"}, "no button 'FIRE'; there are B, A"),
        (GAME, {"choices": "LEFT+RIGHT"}, r"the game does not take LEFT\+RIGHT"),
        (GAME, {"choices": "NOTHING START"}, "the game does not take START"),
        (GAME, {"choices": 3}, "choices are 3, not buttons"),
        (GAME, {"height": 0}, "height is 0, not a whole number from 1 on"),
        (GAME, {"frame_skip": "4"}, "frame_skip is '4', not a whole number"),
        (GAME, {"frames": 2.5}, "frames is 2.5, not a whole number"),
        (GAME, {"colour": 3}, "unknown option of retro:.* 'colour'.*there are: choices"),
        (GAME, {"obs_type": 1}, "unknown option of retro:.* 'obs_type'"),
        (GAME, {"state": "Level9"}, "unknown state of retro:.* 'Level9'.*Level1"),
        (GAME, {"scenario": "easy"}, "unknown scenario of retro:.* 'easy'.*scenario"),
        (GAME, {"info": "easy"}, "unknown info of retro:.* 'easy'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(name, options, told):
    with pytest.raises(ValueError, match=told):
        gpusim.make(f"retro:{name}", **options)
