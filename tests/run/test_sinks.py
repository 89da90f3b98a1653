"""Sinks and clock: every sink tells what it was told, and a resumed file has no second past."""

import csv
import importlib
import io
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from gpusim import metrics
from gpusim.agents.ppo import PPO
from gpusim.run import clock
from gpusim.run.clock import Phases
from gpusim.run.sinks import Csv, JsonLines, Row, TensorBoard, Terminal, WandB


def rows(*steps: int) -> list[Row]:
    values = {"return": 1.5, "episode_length": math.nan, "steps_per_second": 250e3}
    return [Row(s, s / 100, {**values, "kl": s * 1e-3}) for s in steps]


def test_json_lines_are_json_with_null_for_what_is_not_a_number(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    for row in rows(10, 20):
        sink.write(row)
    found = [json.loads(line, parse_constant=pytest.fail) for line in path.open()]
    sink.close()
    assert [line["steps"] for line in found] == [10, 20]
    assert found[1] == {
        "steps": 20, "seconds": 0.2, "return": 1.5, "episode_length": None,
        "steps_per_second": 250e3, "kl": 0.02,
    }  # fmt: skip


def test_resuming_drops_what_will_be_written_again(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(path)
    for row in rows(10, 20, 30):
        first.write(row)
    first.close()
    path.write_text(path.read_text() + '{"steps": 40, "sec')  # killed while writing
    second = JsonLines(path, resume_at=20)
    second.write(rows(25)[0])
    second.close()
    assert [json.loads(line)["steps"] for line in path.open()] == [10, 20, 25]


@pytest.mark.parametrize(
    "garbage",
    [b"5", b"null", b"[1]", b'{"steps": "many"}', b'{"steps": null}', b"\xff\xfe", b"\0\0"],
)
def test_garbage_in_a_log_is_no_row(tmp_path: Path, garbage: bytes):
    """As a power cut or an editor leaves it."""
    lines, table = tmp_path / "metrics.jsonl", tmp_path / "metrics.csv"
    for kind, path in ((JsonLines, lines), (Csv, table)):
        sink = kind(path)
        sink.write(rows(10)[0])
        path.write_bytes(path.read_bytes() + garbage + b"\n")
        kind(path, resume_at=20).write(rows(30)[0])
    assert [json.loads(line)["steps"] for line in lines.open()] == [10, 30]
    with table.open(newline="") as file:
        assert [row["steps"] for row in csv.DictReader(file)] == ["10", "30"]


def test_a_csv_is_whole_after_a_torn_header_and_has_one_in_a_folder_made_anew(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    path.write_text("steps,sec")
    sink = Csv(path, resume_at=0)
    sink.write(rows(10)[0])
    found = path.read_text().splitlines()
    assert found[0].startswith("steps,seconds,return,")
    path.unlink()
    sink.write(rows(20)[0])
    assert path.read_text().splitlines() == [
        found[0],
        found[1].replace("10,0.1,", "20,0.2,").replace("0.01", "0.02"),
    ]


@pytest.mark.parametrize("kind", [JsonLines, Csv])
def test_rows_wait_while_the_disk_is_full(tmp_path: Path, kind: type):
    path = tmp_path / "metrics"
    sink = kind(path)
    sink.write(rows(10)[0])
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 9, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|No space left"):
            sink.write(rows(20)[0])
        assert path.read_bytes() == whole
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.write(rows(30)[0])
    other = kind(tmp_path / "other")
    for row in rows(10, 20, 30):
        other.write(row)
    assert path.read_bytes() == (tmp_path / "other").read_bytes()


def test_csv_has_a_column_for_all_that_comes(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    first, last = Csv(path), {"return": 2.0, "evaluation_return": 7.5}
    for row in rows(10, 20, 30):
        first.write(row)
    first.close()
    path.write_text(path.read_text() + "40,0.4,1")  # killed while writing
    second = Csv(path, resume_at=20)
    second.write(Row(40, 0.5, last))
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["steps"] for row in found] == ["10", "20", "40"]
    assert (found[0]["kl"], found[0]["episode_length"], found[0]["evaluation_return"]) == (
        "0.01",
        "",
        "",
    )
    assert (found[2]["return"], found[2]["evaluation_return"], found[2]["kl"]) == ("2.0", "7.5", "")


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    sink = WandB(tmp_path, "robots", {"seed": 0})
    for row in rows(10, 20):
        sink.write(row)
    sink.close()
    (log,) = tmp_path.rglob("*.wandb")
    assert b"steps_per_second" in log.read_bytes()


def test_tensorboard_events(tmp_path: Path):
    event_pb2 = importlib.import_module("tensorboardX.proto.event_pb2")
    sink = TensorBoard(tmp_path)
    assert not list(tmp_path.iterdir())
    for row in rows(10, 20):
        sink.write(row)
    sink.close()
    (path,) = tmp_path.glob("events.*")
    data, scalars = path.read_bytes(), []
    while data:  # a record: length, its CRC, the event, its CRC
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        scalars += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        data = data[16 + length :]
    assert (20, "return", 1.5) in scalars
    assert {tag for _, tag, _ in scalars} == {"return", "steps_per_second", "kl"}


def written(terminal: bool, sequence: list[Row], total: int) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    sink = Terminal(total, {**metrics.RUN, **PPO.METRICS}, console=console)
    sink.stage("compiling")
    for row in sequence:
        sink.write(row)
    sink.message("saved [1]")
    sink.close()
    return out.getvalue()


def test_tensorboard_does_not_wait_for_torch(tmp_path: Path):
    """Which its writer imports where it is installed; who imports it later finds it."""
    (tmp_path / "torch.py").write_text("print('torch')\n", encoding="utf-8")
    code = (
        "from pathlib import Path; from gpusim.run.sinks import Row, TensorBoard\n"
        f"TensorBoard(Path({str(tmp_path)!r})).write(Row(1, 1.0, {{'x': 1.0}}))\n"
        "print('written'); import torch"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["written", "torch"]


def test_plain_lines_say_where_the_run_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Terminal, "QUIET_SECONDS", 0.0)
    lines = written(False, rows(1_000_000, 2_000_000), 4_000_000).splitlines()
    assert lines[0] == "compiling ..."
    assert lines[1].startswith("  took 0.")
    assert " ".join(lines[2].split()) == (
        "25% 1M / 4M steps 2:46:40 elapsed 0:12 left | training, exploring: steps/s 250k return 2 "
        "KL 1000.0000"
    )
    assert lines[3].startswith(" 50%  2M / 4M steps")
    assert lines[4] == "saved [1]"
    assert "\x1b" not in "".join(lines)


def test_what_was_evaluated_is_told_apart_and_when(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Terminal, "QUIET_SECONDS", 0.0)
    first = Row(10, 0.1, {"return": 5.0, "evaluation_return": 7.0, "evaluation_alive": 0.5})
    lines = written(False, [first, Row(20, 0.2, {"return": 6.0})], 40).splitlines()
    training, evaluated = lines[3].split("  |  ")[1:]
    assert training == "training, exploring: return 6"
    assert evaluated == "evaluated at 10, not exploring: return 7  never ended 50%"


def test_plain_lines_are_few_but_the_last_is_there():
    lines = written(False, rows(*range(10, 110, 10)), 100).splitlines()
    assert [line.split()[0] for line in lines] == [
        *("compiling", "took", "10%", "100%", "saved"),
    ]


def test_a_terminal_shows_bar_and_numbers():
    shown = written(True, rows(50, 100), 200)
    assert "compiling" in shown
    assert "━" in shown
    assert "50%" in shown
    assert "steps/s 250k" in shown
    assert "training episode length" not in shown  # never a number so far


def test_phases_add_up_and_compiling_is_what_the_first_call_took_beyond_the_others():
    phases = Phases(before=2.0)
    phases.calls |= {"train": [5.0, 1.0, 1.2, 1.4], "evaluate": [3.0]}
    assert phases.warm("train") == pytest.approx(1.2 + 3.6)
    assert phases.compiling("train") == pytest.approx(3.8)
    assert phases.warm("evaluate") == 0
    assert phases.compiling("evaluate") == 3
    assert phases.compiling("never") == 0
    with phases("save"):
        time.sleep(0.01)
    assert phases.calls["save"][0] >= 0.01
    assert 2.01 < phases.elapsed() < 3
    phases.mark("first")
    then = phases.marks["first"]
    phases.mark("first")
    assert phases.marks["first"] == then


def test_process_age_counts_from_before_the_imports():
    first = clock.process_age()
    assert first > 0.1  # pytest and JAX took longer
    time.sleep(0.05)
    assert clock.process_age() - first == pytest.approx(0.05, abs=0.04)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1234, "1.23k"), (250e3, "250k"), (20e6, "20M"), (5e9, "5G")],
)
def test_count(number: float, text: str):
    assert metrics.count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (75.4, "1:15"), (3661, "1:01:01"), (math.nan, "-:--")]
)
def test_duration(seconds: float, text: str):
    assert metrics.duration(seconds) == text


@pytest.mark.parametrize("width", [120, 80, 40])
def test_no_number_is_torn_in_a_narrow_terminal(width: int):
    values = {
        "return": 298.0, "steps_per_second": 112e3, "episode_length": 180.0, "kl": 0.0101,
        "policy_loss": -0.0086, "value_loss": 0.152, "entropy": -0.876,
        "evaluation_return": 2103.0, "evaluation_std": 1071.0, "evaluation_alive": 0.63,
    }  # fmt: skip
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    sink = Terminal(2_000_000, {**metrics.RUN, **PPO.METRICS}, console=console)
    sink.write(Row(1_840_000, 34.0, values))
    sink.close()
    for whole in (
        *("training, exploring", "steps/s 112k", "return 298", "episode length 180"),
        *("policy loss -0.0086", "value loss 0.152", "entropy -0.876", "KL 0.0101"),
        *("evaluated at 1.84M, not exploring", "return 2,103", "± 1,071", "never ended 63%"),
        *(("1.84M / 2M steps  0:34 elapsed  0:01 left",) if width >= 80 else ()),
    ):
        assert whole in out.getvalue()
