"""Each benchmark, end to end, as small as it goes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import common, learners, tune
from bench import compile as bench_compile

ROOT = Path(__file__).parents[2]
SMALL = ["--num-envs=16", "--unroll-length=2", "--num-minibatches=2", "--num-epochs=1",
         "--updates-per-call=1"]  # fmt: skip


def run(module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def check_facts(facts):
    assert facts["cores"] >= 1
    assert facts["packages"]["mujoco"]
    assert facts["date"].startswith("20")


@pytest.mark.slow
def test_physics(tmp_path):
    """What cannot be measured is reported, and the others run."""
    contenders = ["gpusim", "nobody", "mujoco.rollout"]
    sizes = ["--threads=1", "--repeats=2", "--num-envs=16", "--steps=2", f"--out={tmp_path}/p.json"]
    screen = run("bench.physics", "--env=hopper", "--contenders", *contenders, *sizes)
    result = json.loads((tmp_path / "p.json").read_text())
    check_facts(result["facts"])
    ours, nobody, rollout = result["results"]
    assert "nobody" in nobody["error"]
    for r in (ours, rollout):
        env, physics = r["env_steps_per_s"], r["physics_steps_per_s"]
        assert 0 < env["low"] <= env["median"] <= env["high"]
        assert physics["median"] == pytest.approx(4 * env["median"])  # hopper's n_frames
        assert common.amount(env["median"]) in screen
    ratio = ours["env_steps_per_s"]["median"] / rollout["env_steps_per_s"]["median"]
    assert f"{ratio:.2f}" in screen


@pytest.mark.slow
def test_pictures(tmp_path):
    small = ["--cameras=inverted_pendulum:side", "--size", "8", "9", "--num=4", "--repeats=1"]
    out = f"--out={tmp_path}/p.json"
    screen = run("bench.pictures", *small, "--contenders", "kernel", "xla", out)
    (found,) = json.loads((tmp_path / "p.json").read_text())["pictures_per_s"]
    assert found["geoms"] == 3
    for contender in ("kernel", "xla"):
        assert common.amount(found[contender]["median"]) in screen


@pytest.mark.slow
@pytest.mark.parametrize("contender", ["gpusim physics", "brax spring", "brax mjx", "envpool"])
def test_peers(tmp_path, contender):
    sizes = ["--repeats=1", "--num-envs=4", "--steps=1", f"--out={tmp_path}/p.json"]
    run("bench.physics", "--env=hopper", "--contenders", contender, *sizes)
    for r in json.loads((tmp_path / "p.json").read_text())["results"]:
        assert r["env_steps_per_s"]["median"] > 0, r


@pytest.mark.slow
def test_train(tmp_path):
    run(
        "bench.train",
        "--env=hopper",
        "--calls=2",
        "--repeats=1",
        *SMALL,
        f"--out={tmp_path}/t.json",
    )
    result = json.loads((tmp_path / "t.json").read_text())
    check_facts(result["facts"])
    ours, peer = (result[k]["env_steps_per_s"]["median"] for k in ("training", "rollout"))
    assert result["ratio"] == pytest.approx(ours / peer)
    assert 0 < result["training"]["rollout_share"] < 1


@pytest.mark.slow
def test_learners(tmp_path, capsys):
    path = tmp_path / "learners.json"
    learners.main(
        learners.Args(envs=("hopper",), learners=("sac", "es"), out=path),
        ["--num-envs=4", "--unroll-length=2", "--total-steps=64", "--evaluations=2",
         "--eval-envs=2", "--episode-length=9"],
    )  # fmt: skip
    found = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert [one["learner"] for one in found] == ["sac", "es"]
    assert all(one["seeds"]["0"]["steps"][-1] >= 64 for one in found)
    assert "hopper, sac" in capsys.readouterr().out


def test_returns_are_those_of_the_last_evaluation_by_then():
    run = {"returns": [3.0, 5.0, 4.0], "seconds": [10.0, 20.0, 40.0]}
    assert [learners.reached(run, s) for s in (9, 20, 30, 41)] == [None, 5.0, 5.0, None]


@pytest.mark.slow
def test_compile(tmp_path):
    run(
        "bench.compile",
        "--env=hopper",
        "--repeats=1",
        "--no-environments",
        *SMALL,
        f"--out={tmp_path}/c.json",
    )
    result = json.loads((tmp_path / "c.json").read_text())
    for kind in ("cold", "warm"):
        (seconds,) = result["seconds"][kind]
        total = seconds.pop("in all")
        assert sum(seconds.values()) == pytest.approx(total)
        assert all(value >= 0 for value in seconds.values()), seconds


def test_overlapping_intervals_count_once():
    assert bench_compile.length_of_union([(0, 2), (1, 3), (5, 6), (5.2, 5.4)]) == pytest.approx(4)
    assert bench_compile.length_of_union([]) == 0


def test_a_moment_belongs_to_the_most_specific_event():
    xla, lower, trace = bench_compile.EVENTS.values()
    spans = {xla: [(2.0, 3.0)], lower: [(1.0, 4.0)], trace: [(0.0, 2.0), (8.0, 12.0)]}
    seconds = list(bench_compile.split_by_kind(spans, end=10.0).values())
    assert seconds == pytest.approx([1.0, 2.0, 3.0])


def test_spread():
    assert common.Spread.of([3.0, 1.0, 2.0]) == common.Spread(median=2.0, low=1.0, high=3.0)
    assert common.amount(1234567) == "1,230,000"


def test_a_search_ranks_by_what_every_seed_holds(tmp_path):
    """The first is at the goal soonest and loses it, the last never comes there."""
    search = tune.Search({"learning_rate": {"choice": [0.1]}}, trials=1, steps=300, goal=10)
    ends = {
        "loses it": [[12, 12, 12], [12, 12, 9]],
        "soon": [[9, 11, 12], [11, 12, 14]],
        "late": [[9, 9, 12], [9, 9, 14]],
        "never": [[1, 2, 3], [1, 2, 9]],
    }
    found = []
    for name, seeds in ends.items():
        run = tmp_path / name
        (run / "seeds").mkdir(parents=True)
        (run / "config.yaml").write_text("learner: ppo\nppo:\n  learning_rate: 0.1\n")
        for k, returns in enumerate(seeds):
            rows = [{"steps": 100 * (i + 1), "evaluation_return": x} for i, x in enumerate(returns)]
            text = "\n".join(json.dumps(row) for row in [{"steps": 50}, *rows])
            (run / "seeds" / f"{k}.jsonl").write_text(text)
        found.append({"name": name, **tune.judged(run, search)})
    found.sort(key=lambda run: run["score"])
    assert [run["name"] for run in found] == ["soon", "late", "loses it", "never"]
    assert found[0]["steps_to_goal"] == 150  # of the median seed, here between the two
    assert (found[0]["returns"], found[0]["values"]) == ([12, 14], {"learning_rate": 0.1})
    assert found[3]["steps_to_goal"] is None
