"""The notebooks: each is one with its text file, and runs from top to bottom at a tiny size."""

import importlib.util
import os
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")  # extra: notebook
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_and_text_are_one(name):
    """Same cells in both; what cells said is of one run from top to bottom, and not long."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    text = jupytext.read(FOLDER / f"{name}.py")
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in text.cells
    ]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts in ([*range(1, len(code) + 1)], [None] * len(code))
    outputs = [output for cell in code for output in cell.outputs]
    assert not outputs or counts[0]
    assert not any(output.output_type == "error" for output in outputs)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 200_000


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs a notebook in a kernel of its own; gives what its cells showed as pages, and printed."""

    def run(name: str) -> tuple[list[str], str]:
        root = str(FOLDER.parent)
        monkeypatch.setenv("GPUSIM_NOTEBOOK_TINY", "1")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        client = nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        )
        client.execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        shown = [output.data for output in outputs if "data" in output]
        pages = [data["text/html"] for data in shown if "text/html" in data]
        texts = [data["text/plain"] for data in shown if "text/plain" in data]
        return pages, "\n".join([output.get("text", "") for output in outputs] + texts)

    return run


def test_01_trains_reports_and_replays(execute, tmp_path):
    live, told, shown = execute("01_train_ant")[0]
    assert 'class="progress"><i style="width:100.0%"' in live
    assert "<polyline" in live
    assert "Where the wall time went" in told
    assert 'id="replay"' in shown.replace("&quot;", '"')
    assert list(tmp_path.glob("runs/*/report.html"))


@pytest.mark.slow
def test_02_compares_a_kernel_with_xla(execute):
    _, said = execute("02_lanes")
    assert "XLA " in said
    assert "(spectrum); rewrite that line" in said  # what a kernel cannot do is told


@pytest.mark.slow
def test_03_trains_a_robot_of_its_own(execute):
    (_, shown), said = execute("03_your_own_robot")
    assert "4 observations, 1 actions" in said
    assert ": Balance, 512 steps, return " in said
    assert "iframe" in shown


@pytest.mark.slow
def test_04_plays_what_it_trained_elsewhere(execute):
    _, said = execute("04_randomisation")
    assert said.count("played with a spread of") == 6
    assert "<policy for VariedHopper: 11 observations>" in said


@pytest.mark.slow
def test_05_runs_an_environment_of_brax(execute):
    pytest.importorskip("brax")
    (_, shown), said = execute("05_brax")
    assert "11 3 gpusim" in said
    assert "iframe" in shown


@pytest.mark.slow
def test_06_scales_out(execute):
    """Where Ray is absent, the half that needs it says so."""
    _, said = execute("06_scaling_out")
    assert said.count("devices: <run runs/") == 3
    assert "pmap and shard_map leave the same bits: True" in said
    assert "exit statuses [0, 0]" in said
    if importlib.util.find_spec("ray") is None:
        assert "the rest needs Ray: pip install 'ray[tune]'" in said
        return
    assert said.count("terminated after 1024 steps") == 2
    assert "hopper, 2.05k steps" in said  # resumed
    assert "exit status 0" in said


@pytest.mark.slow
def test_07_trains_with_rllib(execute):
    pytest.importorskip("ray.rllib")
    pytest.importorskip("torch")
    _, said = execute("07_rllib")
    assert "Box(-1.0, 1.0, (1,), float32) 1000" in said
    assert "    64 steps, " in said


@pytest.mark.slow
def test_08_merges_files_and_clones(execute):
    _, said = execute("08_one_file")
    assert "best" in said
    assert "<CartPole-v1, 128 episodes of runs/dqn/checkpoints/best.npz" in said
    assert "who learned from them:   return" in said
