"""Run notebooks and keep what their cells said: `python notebooks/execute.py 07_rllib`.

Cells come from notebooks/NAME.py. Pages of a cell that are large (replays, which the notebook
itself makes again) are left out; what stands for them as text stays.
"""

import sys
from pathlib import Path

import jupytext  # pyright: ignore[reportMissingImports]
import nbclient  # pyright: ignore[reportMissingImports]
import nbformat  # pyright: ignore[reportMissingImports]

FOLDER = Path(__file__).parent
LARGE = 30_000  # characters


def run(name: str, place: Path) -> None:
    """Write notebooks/NAME.ipynb from NAME.py, executed in the folder `place`."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    before = FOLDER / f"{name}.ipynb"
    if before.exists():
        notebook.metadata = nbformat.read(before, as_version=4).metadata
    nbclient.NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": place}}
    ).execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{name[:2]}-{number}"  # not another one in each run
        cell.metadata.pop("execution", None)  # the clock's
        cell.metadata.pop("lines_to_next_cell", None)
        if "outputs" in cell:  # without the warnings of libraries
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            for kind in [k for k, x in output.get("data", {}).items() if len(str(x)) > LARGE]:
                del output["data"][kind]
            if "text" in output:  # without where it happened to be
                output["text"] = output["text"].replace(f"{place}/", "")
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("data", True)]
    nbformat.write(notebook, before)


if __name__ == "__main__":
    import tempfile

    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            run(name, Path(folder))
        print(name)
