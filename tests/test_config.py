"""gpusim.config: presets, file and flags come together, and mistakes are told in one line."""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any

import pytest

from gpusim import config, train
from gpusim.agents.ppo import PPOConfig
from gpusim.config import ConfigError, TrainConfig
from gpusim.envs import registry


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_flags_win_over_files_later_files_over_earlier_and_all_over_the_preset(tmp_path: Path):
    first = write(tmp_path / "a.yaml", "env: humanoid\nseed: 3\nppo: {unroll_length: 7, clip: 0.1}")
    second = write(tmp_path / "b.yaml", "ppo: {unroll_length: 8, learning_rate: 1e-4}")
    train = config.parse(["--config", first, second, "--clip", "0.2", "--num-envs=6"]).train
    assert (
        train
        == config.parse(
            ["--config", first, "--clip", "0.2", "--config", second, "--num-envs=6"]
        ).train
    )
    preset = config.preset("humanoid")
    assert (train.env, train.seed) == ("humanoid", 3)
    assert train.learner == dataclasses.replace(
        preset, unroll_length=8, clip=0.2, num_envs=6, learning_rate=1e-4
    )


def test_in_python_an_environment_means_its_preset_too():
    for name in registry.names():
        assert TrainConfig(env=name) == config.parse(["--env", name]).train
    assert TrainConfig(env="hopper").learner != TrainConfig(env="ant").learner
    assert TrainConfig(env="my.module:Task").learner == PPOConfig()


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_presets_can_run_on_one_and_two_devices(platform: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    for name in registry.names():
        for devices in (1, 2):
            TrainConfig(env=name).check(devices)


def test_a_gpu_has_presets_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """What they do not say is as elsewhere."""
    cpu: Any = config.preset("ant")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    gpu: Any = config.preset("ant")
    assert gpu.num_envs > cpu.num_envs
    assert gpu.discount == cpu.discount


def test_a_flag_has_several_spellings():
    plain = config.parse(["--total-steps", "20000000", "--learning-rate", "1e-3"])
    for other in (
        ["--steps=20e6", "--ppo.learning_rate=0.001"],
        ["--steps", "20_000_000", "--learner.learning-rate", "1e-3"],
        ["--total-timesteps", "20e6", "--lr", "1e-3"],
    ):
        assert plain == config.parse(other)
    learner: Any = config.parse(["--no-anneal", "--policy-hidden", "8", "16"]).train.learner
    assert (learner.anneal, learner.policy_hidden) == (False, (8, 16))
    for other in (["8,16"], ["[8,", "16]"], ["(8,16)"]):
        both: Any = config.parse(["--hidden", *other]).train.learner
        assert both.policy_hidden == both.value_hidden == (8, 16)
    assert (
        config.parse(["--anneal", "false"]).train.learner
        == config.parse(["--no-anneal"]).train.learner
    )


def test_yaml_round_trip_is_complete_and_exact(tmp_path: Path):
    ppo = PPOConfig(learning_rate=1e-5 / 3, policy_hidden=(8, 16), anneal=False, num_envs=6)
    train = TrainConfig(
        env="hopper", env_options={"healthy_z_range": (0.6, 2.0), "n_frames": 2}, seed=12,
        episode_length=77, devices=2, learner=ppo,
    )  # fmt: skip
    text = config.to_yaml(train)
    for field in (*dataclasses.fields(TrainConfig), *dataclasses.fields(PPOConfig)):
        assert f"{field.name}:" in text
    assert config.parse(["--config", write(tmp_path / "c.yaml", text)]).train == train


TASK = """
import dataclasses
from gpusim.envs.tasks.brax.ant import Ant

@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Mine(Ant):
    legs: int = 4
"""


def test_options_of_an_environment_are_flags(tmp_path: Path):
    flags = ["--env.reset-noise-scale", "0.2", "--env.healthy-z-range", "0.3", "1.1"]
    train = config.parse(["--env", "ant", *flags]).train
    assert train.env_options == {"reset_noise_scale": 0.2, "healthy_z_range": (0.3, 1.1)}
    assert train.world().reset_noise_scale == 0.2
    text = config.to_yaml(train)
    assert config.parse(["--config", write(tmp_path / "c.yaml", text)]).train == train


@pytest.mark.parametrize("name", ["name", "physics"])
def test_no_option_is_called_as_the_environment_s_own_arguments(name: str):
    train = config.parse(["--env", "gym:CartPole-v1", f"--env.{name}", "x"]).train
    with pytest.raises(ConfigError, match=f"--env.{name}: gym:CartPole-v1 has no such option"):
        train.world()


def test_an_environment_of_a_file_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "my_task.py", TASK)
    monkeypatch.chdir(tmp_path)
    train = config.parse(["--env", "my_task.py:Mine", "--env.legs", "6"]).train
    assert train.env == f"{tmp_path}/my_task.py:Mine"
    monkeypatch.chdir("/")
    text = config.to_yaml(train)
    again = config.parse(["--config", write(tmp_path / "c.yaml", text)]).train
    assert again.world().legs == 6


def test_a_task_of_ones_own_has_the_preset_of_the_task_it_is_derived_from(tmp_path: Path):
    source = """
        from gpusim.envs.tasks.brax.hopper import Hopper
        class Farther(Hopper):
            name = "farther"
        class Last(Farther):
            pass
        """
    file = tmp_path / "own.py"
    write(file, textwrap.dedent(source))
    hopper = config.preset("hopper")
    assert hopper != PPOConfig()
    for name in ("Farther", "Last"):
        assert config.preset(f"{file}:{name}") == hopper
        assert config.parse(["--env", f"{file}:{name}"]).train.learner == hopper
    whole = config.to_yaml(config.parse(["--env", f"{file}:Last", "--clip", "0.1"]).train)
    file.unlink()  # what is said completely needs no code
    assert config.from_yaml(whole).learner == dataclasses.replace(hopper, clip=0.1)


def test_another_physics_is_kept():
    """With names of its own."""
    assert config.parse(["--env", "pusher", "--physics", "brax-spring"]).train.env == "pusher"
    train = config.parse(
        ["--env", "ant", "--physics", "brax-spring", "--env.use_contact_forces", "true"]
    )
    assert (train.train.physics, train.train.env_options) == (
        "brax-spring",
        {"use_contact_forces": True},
    )


def test_resume_reads_the_runs_own_configuration(tmp_path: Path):
    write(tmp_path / "config.yaml", config.to_yaml(TrainConfig(env="walker2d", seed=9)))
    command = config.parse(["--resume", str(tmp_path), "--steps", "5e6"])
    assert command.resume == tmp_path
    assert (command.train.env, command.train.seed) == ("walker2d", 9)
    assert command.train.learner.total_steps == 5_000_000


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--dataset", "x.npz"], "--dataset: ppo has no such flag; --learner bc has"),
        (["--env", "humanoyd"], "unknown environment 'humanoyd'; did you mean 'humanoid'?"),
        (["--num-env", "4"], "--num-env: there is no such flag; did you mean '--num-envs'?"),
        (["--nonsense"], "--nonsense: there is no such flag"),
        (["--steps", "2.5"], "--steps: 2.5 is not a whole number"),
        (["--steps", "many"], "--steps: 'many' is not a number"),
        (["--spmd", "magic"], "--spmd: 'magic' is none of 'pmap', 'shard_map'"),
        (["--lr", "fast"], "--lr: 'fast' is not a number"),
        (["--batch-size", "64"], "--batch-size: a batch is --num-envs times --unroll-length"),
        (["--gpu"], "--gpu: JAX takes a GPU where it finds one"),
        (["--seed"], "--seed: takes one value, not none"),
        (["--seed", "1", "2"], "--seed: takes one value, not 1 2"),
        (["--anneal", "maybe"], "--anneal: 'maybe' is neither true nor false"),
        (["stray"], "stray: flags begin with --"),
        (["ant", "--seed", "1"], "ant: flags begin with --; did you mean --env ant?"),
        (["mine.py:Task"], "mine.py:Task: flags begin with --; did you mean --env mine.py:Task?"),
        (["--learner", "pqo"], "unknown learner 'pqo'; did you mean 'ppo'?"),
        (["--env.reset-noise", "1"], "--env.reset-noise: ant has no such option; did you mean"),
        (["--env.n-frames", "x"], "--env.n-frames: 'x' is not a number"),
        (["--env.healthy-z-range", "1"], "--env.healthy-z-range: takes 2 values, not 1"),
        (["--env", "nothing.py:Mine", "--env.a", "1"], "there is no file"),
        (["--physics", "brax-sprong", "--env", "ant"], "unknown physics 'brax-sprong'"),
        (["--resume", "a", "--config", "b"], "leave out --config"),
        (["--config"], "--config: takes one file or more, not none"),
        (["--out", ""], "--out: '' is not a path"),
        (["--resume", "a", "--out", "b"], "leave out --out"),
        (["--resume", "nowhere"], "nowhere/config.yaml: cannot be read"),
    ],
)
def test_mistakes_on_the_command_line(argv: list[str], expected: str):
    with pytest.raises(ConfigError) as caught:
        config.parse(argv).train.world()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ppo: {lerning_rate: 1}",
            ": ppo.lerning_rate: there is no such key; did you mean 'lea",
        ),
        ("sed: 1", ": sed: there is no such key; did you mean 'seed'?"),
        ("seed: soon", ": seed: 'soon' is not a number"),
        ("seed: true", ": seed: True is not a number"),
        ("ppo: 7", ": ppo: expected names and values, found 7"),
        ("ppo: {policy_hidden: 8}", ": ppo.policy_hidden: takes several values, not 8"),
        ("env_options: {legs: 6}", ": env_options.legs: ant has no such option"),
        ("[1, 2]", "expected names and values"),
        ("restore: 3", ": restore: 3 is not a path"),
        ("a: [", "cannot be read"),
        ("seed: 1\nppo: {clip: 0.1}\nseed: 2", "'seed' is there twice, again in line 3"),
        ("ppo: {clip: 0.1, gae_lambda: 0.9,\n clip: 0.2}", "'clip' is there twice"),
    ],
)
def test_mistakes_in_the_file_name_the_file(tmp_path: Path, text: str, expected: str):
    path = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        config.parse(["--config", path])
    assert str(caught.value).startswith(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "devices", "expected"),
    [
        ({"num_envs": 5}, 2, "cannot be shared by 2 devices"),
        ({"num_envs": 6, "unroll_length": 1, "num_minibatches": 4}, 1, "num_minibatches"),
        ({"eval_envs": 0}, 1, "eval_envs is 0, needs to be at least 1"),
        ({"episode_length": 0}, 1, "episode_length is 0"),
        ({"training_episode_length": 0}, 1, "training_episode_length is 0"),
        ({"seed": -1}, 1, "seed is -1"),
        ({"num_envs": 2**70}, 1, "num_envs is 1180591620717411303424, needs to be a number of 32"),
        ({"policy_hidden": (2**31,)}, 1, "policy_hidden is (2147483648,), needs to be a number of"),
        ({"learning_rate": 1e300}, 1, "learning_rate is 1e+300, needs to be a number of 32 bits"),
        ({"learning_rate": 1e-300}, 1, "learning_rate is 1e-300, needs to be a number of 32 bits"),
        ({"total_steps": 10**18}, 1, "gradient steps are more than 32 bits count"),
        ({"total_steps": 10**18, "anneal": False}, 1, "are more than 32 bits count"),
        ({"restore_parts": ("policy",)}, 1, "restore_parts is policy: say of which run, --restore"),
        ({"patience": 2, "evaluations": 0}, 1, "patience is 2, but no evaluation is made"),
        ({"stop_return": 9.0, "evaluations": 0}, 1, "leave out --evaluations 0"),
        ({"eval_envs": 2**31}, 1, "eval_envs is 2147483648, needs to be below 2**31"),
        ({"episode_length": 2**31}, 1, "episode_length is 2147483648, needs to be below 2**31"),
    ],
)
def test_impossible_combinations(change: dict, devices: int, expected: str):
    learner = {k: v for k, v in change.items() if k in PPOConfig.__dataclass_fields__}
    run = {k: v for k, v in change.items() if k not in learner}
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**run, learner=PPOConfig(**learner)).check(devices)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_shows_the_presets_values(capsys: pytest.CaptureFixture[str]):
    assert train.main(["--env", "humanoid", "--help"]) == 0
    said = capsys.readouterr().out
    shown = " ".join(said.split())
    flags = said.partition("what to train:")[2].partition("options of")[0].splitlines()
    lines = [f"{line.split()[0]} " for line in flags if line.startswith("  --")]
    assert "--num-envs INT" in shown
    assert f"all devices together. (default: {config.preset('humanoid').num_envs})" in shown
    assert all(name in shown for name in registry.names())
    assert "Also --steps," in shown
    assert "--env.reset-noise-scale 0.2" in shown
    for kind in (TrainConfig, PPOConfig, config.Command):
        for field in dataclasses.fields(kind):
            flag = f"--{field.name.replace('_', '-')} "
            assert lines.count(flag) == (field.name not in ("train", "env_options"))
