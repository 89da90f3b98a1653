"""The notebooks: each is one with its text file, and runs from top to bottom at a tiny size."""

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
    """Same cells in both; no outputs and no counts, which only make noise in diffs."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    text = jupytext.read(FOLDER / f"{name}.py")
    assert [(c.cell_type, c.source) for c in notebook.cells] == [
        (c.cell_type, c.source) for c in text.cells
    ]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs(name, tmp_path, monkeypatch):
    """In a kernel of its own; the last cell shows a replay."""
    root = str(FOLDER.parent)
    monkeypatch.setenv("GPUSIM_NOTEBOOK_TINY", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    pages = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    live, told, shown = pages
    assert 'class="progress"><i style="width:100.0%"' in live
    assert "<polyline" in live
    assert "Where the wall time went" in told
    assert 'id="replay"' in shown.replace("&quot;", '"')
    assert list(tmp_path.glob("runs/*/report.html"))
