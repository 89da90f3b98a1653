"""Imports point one way, and `import gpusim` stays light."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gpusim import agents

ROOT = Path(__file__).parent.parent

# What each part (a module or package of gpusim) may import of the others.
ALLOWED = {
    "gpusim": {"envs", "export", "lanes", "play", "train"},
    "callable": set(),
    "__main__": {"shell", "suggest"},
    "adapters": {"gpusim", "envs", "lanes"},
    "train": {"callable", "config", "report", "run", "shell", "usage"},
    "launch": {"config", "parse", "shell"},
    "sweep": {"config", "parse", "run", "shell"},
    "play": {"callable", "config", "parse", "played", "player", "report", "run", "shell"},
    "played": {"agents", "config", "envs", "player", "report", "run"},
    "player": {"agents", "config", "envs", "run", "suggest"},
    "view": {"config", "envs", "player", "report", "run", "shell"},
    "export": {"player", "run", "shell"},
    "checkpoint": {"metrics", "run", "shell"},
    "list": {"agents", "envs", "metrics", "report", "shell"},
    "doctor": {"lanes", "report", "shell"},
    "usage": {"agents", "config", "envs", "parse", "spellings"},
    "config": {"agents", "envs", "parse", "run", "spellings", "suggest"},
    "run": {"agents", "config", "lanes", "metrics", "report", "sharding"},
    "report": {"metrics", "shell"},
    "agents": {"envs", "metrics", "sharding", "suggest"},
    "envs": {"lanes", "parse", "physics", "suggest"},
    "physics": {"lanes", "suggest"},
    "lanes": set(),
    "sharding": set(),
    "metrics": set(),
    "parse": set(),
    "shell": set(),
    "spellings": set(),
    "suggest": set(),
}
# Of these parts only these modules may be imported by that part.
ONLY = {
    ("agents", "envs"): {"gpusim.envs.world", "gpusim.envs.vec_env"},
    ("adapters", "envs"): {
        *("gpusim.envs.registry", "gpusim.envs.vec_env", "gpusim.envs.world"),
    },
    ("config", "agents"): {"gpusim.agents", "gpusim.agents.config"},
    ("usage", "agents"): {"gpusim.agents"},
    ("config", "envs"): {"gpusim.envs.registry"},
    ("config", "run"): {"gpusim.run.archive"},
    ("run", "agents"): {"gpusim.agents", "gpusim.agents.evaluate", "gpusim.agents.learner"},
    ("played", "agents"): {"gpusim.agents", "gpusim.agents.dataset", "gpusim.agents.evaluate"},
    ("player", "agents"): {"gpusim.agents", "gpusim.agents.evaluate", "gpusim.agents.learner"},
    ("player", "envs"): {"gpusim.envs.world"},
    ("played", "envs"): {"gpusim.envs.engines", "gpusim.envs.mujoco_task", "gpusim.envs.world"},
    ("view", "envs"): {"gpusim.envs.vec_env", "gpusim.envs.world"},
    ("checkpoint", "run"): {"gpusim.run.archive"},
    ("list", "agents"): {"gpusim.agents"},
    ("list", "envs"): {"gpusim.envs.registry"},
    ("train", "report"): {"gpusim.report.live"},
    ("list", "report"): {"gpusim.report.folder"},
    ("run", "lanes"): {"gpusim.lanes", "gpusim.lanes.cache"},
    ("run", "report"): {"gpusim.report.report", "gpusim.report.replay"},
}


def part(module: str) -> str:
    """gpusim.lanes.host -> lanes, gpusim.agents.ppo -> agents, gpusim -> gpusim."""
    return module.split(".")[:2][-1]


def module_of(path: Path) -> str:
    """The import name of a source file; the folder agents is installed as gpusim.agents."""
    names = path.relative_to(ROOT).with_suffix("").parts
    names = ("gpusim", *names) if names[0] == "agents" else names
    return ".".join(names).removesuffix(".__init__")


def package_of(path: Path) -> str:
    """The package that a source file lies in."""
    return module_of(path.parent / "__init__.py")


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
    return [name for name in found if name.split(".")[0] == "gpusim"]


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/").replace("gpusim/agents", "agents")
    return path.is_dir() or path.with_suffix(".py").exists()


def test_every_package_is_installed_and_this_checkout_is_tested():
    """pyproject.toml lists packages one by one, since agents/ is installed as gpusim.agents."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["package-dir"] == {"gpusim": "gpusim", "gpusim.agents": "agents"}
    assert set(settings["packages"]) == {package_of(path) for path in sources()}
    assert Path(agents.__file__).resolve().parent == ROOT / "agents"


def sources() -> list[Path]:
    return sorted([*ROOT.glob("gpusim/**/*.py"), *ROOT.glob("agents/**/*.py")])


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path):
    module = module_of(path)
    own = part(module)
    assert own in ALLOWED, f"{module}: say in ALLOWED what {own} may import"
    for name in imported(path, tuple(package_of(path).split("."))):
        fine = part(name) in ALLOWED[own] | {own}
        assert fine, f"{module} imports {name}: against the arrows of the architecture"
        if (own, part(name)) in ONLY:
            assert name in ONLY[own, part(name)], f"{module} imports {name}: too much of it"


def test_the_run_names_no_algorithm():
    """The loop, play, report and configuration know learners by their protocol."""
    known = ("ppo", "reinforce", "MLP_0", "policy_loss")
    for path in (
        *ROOT.glob("gpusim/*.py"),
        *ROOT.glob("gpusim/run/*"),
        *ROOT.glob("gpusim/report/*.py"),
    ):
        text = path.read_text().replace("docs/ppo.md", "") if path.suffix == ".py" else ""
        words = [word for word in re.findall(r"\w+", text) if word in known]
        assert not words, f"{path} names {words}"


def test_there_are_no_circles():
    """Among modules, imports within functions counted too."""
    arrows: dict[str, set[str]] = {}
    for path in sources():
        found = imported(path, tuple(package_of(path).split(".")))
        arrows[module_of(path)] = {name for name in found if name != module_of(path)}
    while leaves := [m for m, ends in arrows.items() if not ends & arrows.keys()]:
        for leaf in leaves:
            del arrows[leaf]
    own = {m: sorted(e & arrows.keys()) for m, e in arrows.items() if part(m) != "lanes"}
    assert not own, own


def modules_after(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_import_gpusim_is_light():
    heavy = {"brax", "gpusim.agents", "flax", "optax", "orbax", "mujoco.renderer", "tyro", "rich"}
    assert not heavy & modules_after("import gpusim")


def test_environments_come_without_brax_and_learners():
    heavy = {"brax", "gpusim.agents", "orbax", "flax", "mujoco.renderer", "tensorboardX"}
    assert not heavy & modules_after("import gpusim; gpusim.make")


def test_parsing_the_command_line_needs_no_jax():
    assert not {"jax", "mujoco"} & modules_after("import gpusim.train")


def test_loading_a_policy_needs_numpy_alone():
    heavy = {"jax", "mujoco", "gpusim.play", "onnx", "yaml"}
    assert not heavy & modules_after("import gpusim; gpusim.export.load")


def test_no_form_of_import_escapes(tmp_path: Path):
    source = tmp_path / "x.py"
    source.write_text(
        "import gpusim.agents.ppo, os\nfrom gpusim import envs, lanes as l\nimport gpusim\n"
        "def f():\n    from gpusim.physics import no_module\n    import jax\n"
        "    from . import host\n    from ..report import replay\n"
    )
    assert sorted(imported(source, ("gpusim", "lanes"))) == [
        "gpusim",
        "gpusim.agents.ppo",
        "gpusim.envs",
        "gpusim.lanes",
        "gpusim.lanes.host",
        "gpusim.physics",
        "gpusim.report.replay",
    ]


def test_text_files_are_utf_8_in_every_country():
    """A call that does not say so reads and writes as the machine's locale has it."""
    ascii_only = ROOT / "gpusim" / "lanes" / "host" / "abi.py"  # reads a header of XLA's
    for path in {*sources(), *ROOT.glob("bench/*.py")} - {ascii_only}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = ast.unparse(node.args[0]) if node.args else "'r'"
            text = name in ("read_text", "write_text") or (
                name == "open" and re.fullmatch(r"'[rwax+]+'", first)
            )
            said = {keyword.arg for keyword in node.keywords}
            assert not text or "encoding" in said, f"{path}:{node.lineno}: {ast.unparse(node)}"
