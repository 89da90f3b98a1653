"""Imports point one way, and `import gpusim` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What each part (a module or package of gpusim, or agents) may import of the others.
RUN = {"gpusim", "agents", "envs", "sharding", "checkpoint", "metrics", "summary", "config"}
ALLOWED = {
    "gpusim": {"envs", "lanes"},
    "train": {"training", "config", "metrics", "report"},
    "training": RUN | {"report"},
    "summary": {"checkpoint", "metrics"},
    "play": RUN | {"report", "physics"},
    "config": set(),
    "metrics": {"checkpoint"},
    "checkpoint": set(),
    "sharding": set(),
    "lanes": set(),
    "physics": set(),
    "envs": {"physics", "lanes"},
    "report": {"physics"},
    "adapters": {"gpusim", "envs", "physics"},
    "agents": {"sharding"},
}
# Single modules that may do what their part may not.
EXCEPTIONS = {
    ("gpusim.config", "agents.config"),  # plain dataclasses
    ("gpusim.physics.step", "gpusim.lanes"),
}


def part(module: str) -> str:
    """gpusim.lanes.host -> lanes, agents.ppo -> agents, gpusim -> gpusim."""
    names = module.split(".")
    return names[1] if names[0] == "gpusim" and len(names) > 1 else names[0]


def imported(path: Path, package: tuple[str, ...]) -> list[str]:
    """Our modules that a file of a package imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:  # `from gpusim import envs` imports a module
                inner = f"{base}.{name.name}"
                found.append(inner if is_module(inner) else base)
    return [name for name in found if name.split(".")[0] in ("gpusim", "agents")]


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def sources() -> list[Path]:
    return sorted([*ROOT.glob("gpusim/**/*.py"), *ROOT.glob("agents/**/*.py")])


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = part(module)
    assert own in ALLOWED, f"{module}: say in ALLOWED what {own} may import"
    for name in imported(path, path.relative_to(ROOT).parent.parts):
        fine = part(name) in ALLOWED[own] | {own} or (module, name) in EXCEPTIONS
        assert fine, f"{module} imports {name}: against the arrows of the architecture"


def modules_after(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_import_gpusim_is_light():
    heavy = {"brax", "agents", "flax", "optax", "orbax", "mujoco.renderer", "tyro", "rich"}
    assert not heavy & modules_after("import gpusim")


def test_environments_come_without_brax_and_learners():
    heavy = {"brax", "agents", "orbax", "flax", "mujoco.renderer", "tensorboardX"}
    assert not heavy & modules_after("import gpusim; gpusim.make")


def test_parsing_the_command_line_needs_no_jax():
    assert not {"jax", "mujoco"} & modules_after("import gpusim.train")


def test_no_form_of_import_escapes(tmp_path: Path):
    source = tmp_path / "x.py"
    source.write_text(
        "import agents.ppo, os\nfrom gpusim import envs, lanes as l\nimport gpusim\n"
        "def f():\n    from gpusim.physics import no_module\n    import jax\n"
        "    from . import host\n    from ..report import replay\n"
    )
    assert sorted(imported(source, ("gpusim", "lanes"))) == [
        "agents.ppo",
        "gpusim",
        "gpusim.envs",
        "gpusim.lanes",
        "gpusim.lanes.host",
        "gpusim.physics",
        "gpusim.report.replay",
    ]
