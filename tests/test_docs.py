"""The pages: their commands are understood, their snippets run, their links lead somewhere."""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from gpusim import config, play
from gpusim.__main__ import COMMANDS
from gpusim.envs.sizes import SIZES, Sizes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Names that a snippet may take for granted, of the text around it.
TINY = "--num-envs 16 --unroll-length 4 --num-minibatches 2 --num-epochs 1 --updates-per-call 1"
TINY += " --steps 128 --evaluations 1 --eval-envs 4 --episode-length 20"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The lines of the page's shell blocks, and what looks like one of our commands in its text."""
    text = page.read_text()
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines += re.findall(r"`((?:python -m (?:gpusim|bench)|make |pip install )[^`]*)`", text)
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


ALL = [(page.name, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(("page", "words"), ALL, ids=lambda x: str(x)[:60])
def test_commands_are_understood(page: str, words: list[str]):
    if words[:2] in (["python", "-m"], ["python3", "-m"]):
        name, _, command = words[2].partition(".")
        understood = {"gpusim": ours, "bench": bench, "venv": lambda *_: None}[name]
        understood(command, words[3:])
    elif words[0] == ".":
        assert words[1:] in (["env/bin/activate"], [".venv/bin/activate"])
    elif words[0] == "make":
        done = subprocess.run(["make", "-n", words[1], "VENV=/nowhere"], cwd=ROOT)
        assert done.returncode == 0
    elif words[0].endswith("gpusim"):
        ours(words[1], words[2:])
    elif words[0].endswith("pip"):
        for extra in re.findall(r"^\.\[(\w+)\]$", words[-1]):
            assert extra in EXTRAS
    else:
        assert words[0] == "bench/gpu.sh", f"{page}: {words[0]}: say here how it is tested"


def ours(name: str, flags: list[str]) -> None:
    """Every flag is there; placeholders stand for themselves."""
    assert not name or name in COMMANDS
    if name == "train":
        flags = ["ant" if flag == "ENV" else flag for flag in flags]
        if "--help" not in flags and not any(".py:" in flag for flag in flags):
            config.parse(flags)
    elif name == "play":
        play._parse(flags)


def bench(name: str, flags: list[str]) -> None:
    text = (ROOT / "bench" / f"{name}.py").read_text()
    for flag in flags:
        if flag.startswith("--"):
            assert flag[2:].replace("-", "_") in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_are_python_and_import_what_there_is(page: Path):
    for block in blocks(page, "python"):
        for node in ast.parse(block).body:
            names = [name.name for name in getattr(node, "names", [])]
            outside = getattr(node, "module", names and names[0]) in ("my_task", "brax")
            if isinstance(node, ast.Import | ast.ImportFrom) and not outside:
                try:
                    exec(compile(ast.Module([node], []), page.name, "exec"), {})
                except ModuleNotFoundError as error:
                    if error.name not in EXTRAS:  # which alone may be absent
                        raise


@pytest.mark.parametrize("number", [0, 2])
def test_snippets_of_the_readme_run_when_pasted(number: int):
    exec(compile(blocks(ROOT / "README.md", "python")[number], "README.md", "exec"), {})


def test_the_table_of_environments_says_what_is():
    """Sizes are those of gpusim.envs.sizes, which are the worlds' (envs/test_registry.py)."""
    page = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    rows = re.findall(r"`([\w-]+)`:(.*)\| (\d+) \| (\d+) \| ([\d.]+) s \|", page)
    counted = lambda what, text, usual: int((re.findall(rf"(\d+) {what}", text) or [usual])[0])
    told = {
        name: Sizes(
            *(int(observations), int(actions), float(dt)),
            *(counted("choices", text, 0), counted("agents", text, 1)),
        )
        for name, text, observations, actions, dt in rows
    }
    assert told == SIZES
    assert len(rows) == len(told)


HERE = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
# Commands that are run by tests of their own, which say more than their status.
ELSEWHERE = {
    "--coordinator": "run/test_processes.py",
    "--nodes": "test_launch.py",
    "my_task.py:Balance": "test_your_own_task.py",
}


def shell(words: list[str], folder: Path) -> None:
    """Run one of our commands as it is printed, at a small size."""
    name = words[2].partition(".")[2]
    small = [*TINY.split()] if name == "train" and not {"--help", "--dry-run"} & {*words} else []
    small += ["--size", "64x48"] if name == "play" and {"--gif", "--video"} & {*words} else []
    small += ["--port", "0", "--seconds", "1"] if name == "view" else []
    command = [sys.executable, *words[1:], *small]
    done = subprocess.run(command, cwd=folder, env=HERE, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stderr}"


@pytest.fixture(scope="module")
def some_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for a run that a page takes for granted."""
    folder = tmp_path_factory.mktemp("runs")
    shell(shlex.split("python -m gpusim.train --env hopper --out run"), folder)
    return folder / "run"


def needed(words: list[str]) -> str:
    """The module that a command needs besides what all need; "" if there is none."""
    if words[2] == "gpusim.sweep":
        return "ray"
    if "--onnx" in words:
        return "onnx"
    if words[2] == "gpusim.view":
        return "viser"
    if suite := {"gym": "gymnasium", "envpool": "envpool"}.get(_env(words).partition(":")[0]):
        return suite
    return "imageio_ffmpeg" if {"--gif", "--video"} & {*words} else ""


def _env(words: list[str]) -> str:
    return words[words.index("--env") + 1] if "--env" in words else ""


OURS = {
    page: [words for name, words in ALL if name == page and words[2:3] and "gpusim." in words[2]]
    for page in dict.fromkeys(name for name, _ in ALL)
}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, its in OURS.items() if its])
def test_commands_run_as_printed(page: str, some_run: Path, tmp_path: Path):
    """One after the other, as a reader of the page would."""
    for words in OURS[page]:
        if {*words} & {*ELSEWHERE} or "runs/balance" in words:
            continue
        module = needed(words)
        if module and importlib.util.find_spec(module) is None:
            continue
        words = ["ant" if word == "ENV" else word for word in words]
        words = [{"RUN": "runs/some", "FILE": "film.webp"}.get(word, word) for word in words]
        made = words[words.index("--out") + 1] if "--out" in words else ""
        for word in words:
            if word.startswith("runs/") and word != made and not (tmp_path / word).exists():
                shutil.copytree(some_run, tmp_path / word)
        if words[2] == "gpusim.sweep":
            space = words[words.index("--space") + 1]
            (tmp_path / space).write_text("learning_rate: {choice: [1e-3]}\n")
            words += [*TINY.split(), "--trials", "1"]
        shell(words, tmp_path)
    if page == "first-run.md":
        assert (tmp_path / "ant.mp4").exists()
        assert (tmp_path / "runs" / "report.html").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name} links to {link}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                assert anchor in [
                    re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings
                ]


def test_every_page_can_be_found():
    """From the readme and in the site's navigation."""
    readme = (ROOT / "README.md").read_text()
    nav = str(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    for page in ROOT.glob("docs/*.md"):
        assert page.name == "index.md" or f"(docs/{page.name})" in readme
        assert f"'{page.name}'" in nav
