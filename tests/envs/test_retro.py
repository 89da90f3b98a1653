"""Games of stable-retro: what is told is what its own emulator says."""

import jax
import numpy as np
import pytest

retro = pytest.importorskip("stable_retro")

import gpusim  # noqa: E402

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


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("Airstrike", {}, "did you mean 'Airstriker-Genesis-v0'"),
        ("1942-Nes-v0", {}, "has no ROM of it; import yours"),
        (GAME, {"choices": "LEFT FIRE"}, "no button 'FIRE'; there are B, A"),
        (GAME, {"height": 0}, "height is 0, not 1 or more"),
        (GAME, {"colour": 3}, "cannot be made: TypeError.*colour"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(name, options, told):
    with pytest.raises(ValueError, match=told):
        gpusim.make(f"retro:{name}", **options)
