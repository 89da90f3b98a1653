"""Vehicles as a table and as a diagram, of episodes made by hand and of every traffic world."""

import csv
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpusim
from gpusim.envs.traffic.vehicles import Vehicles
from gpusim.report import vehicles


def by_hand() -> Vehicles:
    """Two episodes of two steps, of two vehicles; the second one is there from step 1 on."""
    here = np.ones((3, 2, 2), bool)
    here[0, :, 1] = False
    number = np.broadcast_to(np.array([7, 8]), here.shape)
    place = np.arange(12.0).reshape(3, 2, 2)
    zero = np.zeros(here.shape)
    return Vehicles._make([here, number, zero, zero, place, 2 * place, number == 8])


def test_a_row_for_every_vehicle_that_is_there():
    columns = vehicles.table(by_hand(), np.array([2, 1]), 0.5)
    file = io.BytesIO()
    vehicles.write_table(Path("cars.csv"), file, columns)
    rows = [*csv.DictReader(io.StringIO(file.getvalue().decode()))]
    told = [(r["episode"], r["time"], r["id"], r["position"], r["controlled"]) for r in rows]
    assert told == [
        ("0", "0.0", "7", "0.0", "0"),
        ("0", "0.5", "7", "4.0", "0"),
        ("0", "0.5", "8", "5.0", "1"),
        ("0", "1.0", "7", "8.0", "0"),
        ("0", "1.0", "8", "9.0", "1"),
        ("1", "0.0", "7", "2.0", "0"),
        ("1", "0.5", "7", "6.0", "0"),
        ("1", "0.5", "8", "7.0", "1"),
    ]
    assert {r["speed"] for r in rows if r["position"] == "9.0"} == {"18.0"}
    with pytest.raises(ValueError, match=r"a table is written as \.csv or \.parquet"):
        vehicles.write_table(Path("cars.xls"), file, columns)


def test_a_diagram_shows_where_and_how_fast():
    """One vehicle stands at 25 m, another one drives through 100 m at 10 m/s."""
    steps = 101
    place = np.stack([np.full(steps, 25.0), np.linspace(0, 100, steps)], 1)
    speed = np.broadcast_to(np.array([0.0, 10.0]), place.shape)
    here, zero = np.ones(place.shape, bool), np.zeros(place.shape)
    one = Vehicles._make([here, zero, zero, zero, place, speed, zero > 0])
    image = np.asarray(vehicles.diagram(one, 0.1)).astype(int)
    left, above, right, below = vehicles.FRAME
    inside = image[above : 420 - below, left : 900 - right]
    high, wide, _ = inside.shape
    red = (inside[..., 0] > 180) & (inside[..., 1] < 80)
    green = (inside[..., 0] < 80) & (inside[..., 1] > 120)
    rows = np.nonzero(red.any(1))[0]
    np.testing.assert_allclose(1 - rows.min() / high, 0.25, atol=0.02)  # the front bumper
    np.testing.assert_allclose(len(rows) / high, 0.05, atol=0.02)  # 5 m long
    for share in (0.25, 0.75):
        ups = np.nonzero(green[:, int(share * wide)])[0]
        np.testing.assert_allclose(1 - ups.min() / high, share, atol=0.03)


@pytest.mark.parametrize(
    "name", ["WaveAttenuationPO", pytest.param("merge0", marks=pytest.mark.slow), "grid0"]
)
def test_the_vehicles_of_a_world_are_those_it_counts(name: str):
    options: dict[str, Any] = {"prepared_starts": 0, "warmup": 0} if "Wave" in name else {}
    world: Any = gpusim.make(name, **options)
    state = jax.vmap(world.reset)(jax.random.split(jax.random.key(0), 2))
    step = jax.jit(jax.vmap(world.step))
    for _ in range(20):
        state = step(state, jnp.zeros((2, *world.action_shape)))
    found = jax.vmap(world.vehicles)(state)
    here = np.asarray(found.here)
    speed = np.where(here, found.speed, 0).sum(1) / here.sum(1)
    np.testing.assert_allclose(speed, state.metrics["mean_speed"], rtol=1e-4)
    if "cars" in state.metrics:
        np.testing.assert_array_equal(here.sum(1), state.metrics["cars"])
    for k in range(2):
        numbers = np.asarray(found.id)[k][here[k]]
        assert len(set(numbers.tolist())) == len(numbers)
        assert (np.asarray(found.position)[k][here[k]] >= 0).all()


def test_what_a_road_lets_through_is_drawn():
    """Half as much leaves as comes: the line of means goes through points at half the height."""
    inflow = np.linspace(200, 2000, 48)
    image = np.asarray(vehicles.capacity(inflow, inflow / 2, size=(640, 420))).astype(int)
    left, above, right, below = vehicles.FRAME
    wide, high = 640 - left - right, 420 - above - below
    blue = (image == (0, 0, 128)).all(-1)
    for share in (0.25, 0.5, 0.75):
        rows = np.flatnonzero(blue[:, left + round(share * wide)])
        assert abs(rows.mean() - (above + high - share / 2 * high)) < 2


def test_from_a_run(tmp_path: Path):
    run = gpusim.train(
        "WaveAttenuationPO", out=tmp_path / "run", num_envs=8, unroll_length=4, num_minibatches=2,
        total_steps=32, updates_per_call=1, evaluations=0, tensorboard=False, devices=1,
        episode_length=30, env_options={"prepared_starts": 0, "warmup": 0},
    )  # fmt: skip
    played = gpusim.play(run, episodes=2)
    assert played.emission(tmp_path / "made" / "cars.csv") == 2 * 31 * 22
    assert played.time_space(tmp_path / "waves.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"the diagram is a \.png"):
        played.time_space(tmp_path / "waves.gif")
    with pytest.raises(ValueError, match="measures no inflow and outflow"):
        played.capacity(tmp_path / "capacity.png")
    with pytest.raises(ValueError, match="a table is written as"):
        played.emission(tmp_path / "cars.txt")
    assert not (tmp_path / "cars.txt").exists()
