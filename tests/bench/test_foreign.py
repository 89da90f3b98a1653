"""bench.foreign: what it says of a step that is right, wrong, refused or never done."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench import foreign, sides, suites
from gpusim import lanes
from tests.bench.test_bench import check_facts, run

WORLDS = 16


def step(state, key):
    state = state + jax.random.randint(key, (3,), 0, 5)
    return state, {"sum": state.sum(), "sine": jnp.sin(state.astype(float))}


WORLD = suites.World(lambda key: jax.random.randint(key, (3,), 0, 9), step)


def told():
    lines = []
    sides.measure(WORLD, WORLDS, 0.01, lambda **what: lines.append(json.dumps(what)))
    return foreign.found("\n".join(["a library says something", *lines]))


def test_a_step_that_lanes_gets_right():
    result = told()
    assert result["single_step_error"] < 1e-6
    assert foreign.verdict(result) == ""
    assert set(result["running_error"]) == {"1", "10", "100"}
    assert result["running_first_parted"] is None
    assert result["operations"] > 0
    assert result["ratio"] == result["steps_per_s"] / result["xla_steps_per_s"]


def test_a_step_that_lanes_gets_wrong(monkeypatch):
    def off_by_one_sometimes(fn):
        def run(state, key):
            state, seen = fn(state, key)
            return state.at[1].add(key[1] % 4 == 0), seen

        return run

    monkeypatch.setattr(lanes, "kernel", off_by_one_sometimes)
    result = told()
    wrong = result["single_step_parted"]
    assert list(wrong) == ["[0]"]  # the state, not what was seen
    assert 0.15 < wrong["[0]"] / (WORLDS * sides.STEPS) < 0.35
    assert "WRONG" in foreign.row({"name": "world", **result})[-1]
    assert foreign.verdict({**result, "double": {"single_step_parted": {}}}) == " edge"


def test_a_step_that_lanes_refuses(monkeypatch):
    def refuse(fn):
        raise lanes.LanesError("primitive 'fft' is not supported, at /home/me/lib/game.py:12:3")

    monkeypatch.setattr(lanes, "kernel", refuse)
    result = told()
    assert result["xla_steps_per_s"] > 0
    remark = "refused: primitive 'fft' is not supported, at game.py:12:3"
    assert foreign.notes(result) == [remark]


def test_a_step_that_is_never_done():
    result = foreign.measure("gymnax", "CartPole-v1", foreign.Args(limit=0.01))
    assert foreign.notes(result) == ["failed while being made: not done within 0 s"]


@pytest.mark.slow
def test_a_step_that_cannot_be_made():
    result = foreign.measure("gymnax", "NoSuchGame", foreign.Args())
    assert "Error" in result["failure"]


@pytest.mark.slow
def test_an_environment_end_to_end(tmp_path):
    pytest.importorskip("gymnax")
    small = ["--worlds=16", "--seconds=0.01", f"--out={tmp_path}/f.json"]
    screen = run("bench.foreign", "--suite=gymnax", "--only=CartPole-v1", *small)
    result = json.loads((tmp_path / "f.json").read_text())
    check_facts(result["facts"])
    assert result["libraries"]["gymnax"]
    (one,) = result["results"]
    assert (one["suite"], one["name"]) == ("gymnax", "CartPole-v1")
    assert f"{one['ratio']:.2f}" in screen


def test_errors_are_relative_and_nan_equals_nan():
    theirs = {"x": np.array([[100.0, np.nan, 0.5]]), "n": np.array([[1, 2], [3, 4], [5, 6]])}
    ours = {"x": np.array([[101.0, np.nan, 0.25]]), "n": np.array([[1, 2], [0, 0], [5, 7]])}
    assert sides.compare(ours, theirs) == (0.25, {"['n']": 2, "['x']": 1})
    assert sides.compare({"x": np.array([np.nan])}, {"x": np.array([1.0])})[0] == np.inf
    for x in (np.array([np.inf]), np.array([1.0005])):
        assert sides.compare({"x": x}, {"x": np.round(x)})[1] == {}


def test_every_valid_choice_and_no_other_is_picked():
    mask = jnp.array([[False, True, False], [False, True, True]])
    keys = jax.random.split(jax.random.key(0), 200)
    assert set(jax.vmap(suites.pick, (None, 0))(mask, keys).tolist()) == {1, 4, 5}


def test_worlds_become_of_different_ages():
    count = lambda state, first, n: state + n
    ages = sides.spread(count, jnp.zeros(500, int))
    assert ages.min() == 0
    assert ages.max() == sides.STEPS - 1
    assert len(set(ages.tolist())) > 0.9 * sides.STEPS
