"""The commands: each is found, explains itself, and says one line when it cannot."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gpusim import __main__, doctor, shell, train
from gpusim import list as listing
from gpusim.agents import names as learners
from gpusim.agents.ppo import PPOConfig
from gpusim.envs import registry
from gpusim.parse import fields_of
from gpusim.spellings import SPELLINGS

ROOT = Path(__file__).parents[1]


def test_all_are_listed(capsys: pytest.CaptureFixture[str]):
    assert __main__.main([]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in __main__.COMMANDS)


@pytest.mark.parametrize("name", __main__.COMMANDS)
def test_each_explains_itself(name: str, capsys: pytest.CaptureFixture[str]):
    with contextlib.suppress(SystemExit):  # argparse's way to end
        assert __main__.main([name, "--help"]) == 0
    assert f"gpusim.{name}" in capsys.readouterr().out


def test_one_that_is_not_there(capsys: pytest.CaptureFixture[str]):
    assert __main__.main(["trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


def test_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = tmp_path / "ant-0"
    run.mkdir()
    (run / "config.yaml").write_text("env: ant\n")
    (run / "metrics.jsonl").write_text('{"steps": 2000, "seconds": 75, "evaluation_return": 1234}')
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.yaml").write_text("")
    assert listing.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name}: " in said for name in [*registry.names(), *learners()])
    assert "reset_noise_scale" in said
    assert "\n      27 observations, 8 actions, control step 0.05 s\n" in said
    assert "evaluated return 1,234  not finished" in said
    assert "torn" in said
    assert "cannot be read" in said


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    doctor.main([])
    said = capsys.readouterr().out
    assert "a kernel agrees with JAX" in said
    assert re.search(r"films +(MuJoCo draws them|.*libosmesa6)", said) or "-- pillow" in said
    monkeypatch.setenv("GPUSIM_CACHE", "off")
    monkeypatch.setenv("GPUSIM_LANES", "xla")
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert "!! cache" in said
    assert "unset GPUSIM_LANES" in said


def test_physics_of_brax_without_brax(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'brax-spring' needs brax: pip install brax"):
        registry.make("ant", physics="brax-spring")


def test_a_script_beside_the_clone_imports_what_is_installed(tmp_path: Path):
    """The clone's folder may be called gpusim, too."""
    site = Path(sysconfig.get_path("purelib"))
    if not any(str(ROOT) in path.read_text().splitlines() for path in site.glob("*.pth")):
        pytest.skip("this checkout is not what is installed")
    (tmp_path / "gpusim").symlink_to(ROOT)
    script = tmp_path / "script.py"
    script.write_text("import gpusim; print(gpusim.__file__); import gpusim.agents")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, script], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == ROOT / "gpusim" / "__init__.py"


def test_a_reader_that_has_gone_ends_nothing(tmp_path: Path):
    """As `... | head -1` does."""
    code = "from gpusim import shell; [shell.say('line') for _ in range(9)]; open('end', 'w')"
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout
    assert child.stderr
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 0
    assert (tmp_path / "end").exists()


def test_letters_that_the_terminal_lacks():
    say = "shell.say('\\xb11 \\u2192')"
    code = f"from gpusim import shell; shell.command('it')(lambda argv: {say} or 0)([])"
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True,
        env={**os.environ, **poor, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"?1 ?\n", b"")


def test_ctrl_c_is_one_line():
    code = "import signal; from gpusim import shell; stop = signal.default_int_handler\n"
    code += "import sys; sys.exit(shell.command('gpusim.it')(lambda argv: stop(2, None))([]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "gpusim.it: stopped\n")


def test_ctrl_c_in_a_callback_is_not_lost():
    """JAX has one for each garbage collection, and what is raised there goes nowhere."""
    code = """
import signal, sys, time
from gpusim import shell

class Callback:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def main(argv):
    Callback()
    time.sleep(20)
    return 0

sys.exit(shell.command("gpusim.it")(main)([]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "gpusim.it: stopped\n")


def test_a_printed_command_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / ".venv" / "bin", tmp_path / "system"):
        folder.mkdir(parents=True)
        (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv" / "bin" / "python"))
    # Not activated: another Python, or none, is what `python` means.
    monkeypatch.setenv("PATH", str(tmp_path / "system"))
    assert shell.call("gpusim.play", "runs/a") == ".venv/bin/python -m gpusim.play runs/a"
    monkeypatch.setenv("PATH", "")
    assert shell.call("gpusim.play", Path("a b")) == ".venv/bin/python -m gpusim.play 'a b'"
    monkeypatch.setenv("PATH", str(tmp_path / ".venv" / "bin"))
    assert shell.call("gpusim.play", "runs/ü") == "python -m gpusim.play 'runs/ü'"


@pytest.mark.parametrize("width", [40, 80])
def test_pages_of_text_keep_to_the_window(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (["train", "--help"], ["list", str(tmp_path)]):
        assert __main__.main(command) == 0
        said = capsys.readouterr().out
        long = [line for line in said.splitlines() if len(line) > width and " " in line.strip()]
        assert not [line for line in long if not line.lstrip().startswith(("--", "runs in"))]


def test_help_has_flags_where_people_look_and_other_spellings(capsys: pytest.CaptureFixture[str]):
    assert __main__.main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    learning = re.findall(r"^  --([\w-]+)", said.partition("how ppo learns:")[2], re.MULTILINE)
    assert {flag.replace("-", "_") for flag in learning} < set(fields_of(PPOConfig))
    for short, long in SPELLINGS.items():
        for flag in long:
            entry = re.search(rf"^  --{flag.replace('_', '-')} .*\n((?:      .*\n)+)", said, re.M)
            assert entry
            assert f"--{short.replace('_', '-')}" in entry[1]


def test_an_error_nobody_foresaw_is_not_hidden_by_another(monkeypatch):
    """Before what the command imports late is imported."""

    def fail(argv):
        raise ModuleNotFoundError("No module named 'mujoco'")

    monkeypatch.setattr(train.config, "parse", fail)
    with pytest.raises(ModuleNotFoundError, match="mujoco"):
        train.main(["--env", "ant"])
