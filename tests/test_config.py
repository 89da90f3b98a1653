"""gpusim.config: presets, file and flags come together, and mistakes are told in one line."""

import dataclasses
from pathlib import Path

import pytest

from gpusim import config
from gpusim.agents.config import PPOConfig
from gpusim.config import PRESETS, ConfigError, TrainConfig


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path):
    given = write(tmp_path / "c.yaml", "env: humanoid\nseed: 3\nppo: {unroll_length: 7, clip: 0.1}")
    train = config.parse(["--config", given, "--clip", "0.2", "--num-envs=6"]).train
    preset = PRESETS["humanoid"]
    assert train.env == "humanoid"
    assert train.seed == 3
    assert train.ppo == dataclasses.replace(preset, unroll_length=7, clip=0.2, num_envs=6)


def test_presets_differ_and_each_can_run_on_one_and_two_devices():
    assert config.parse(["--env", "humanoid"]).train.ppo != config.parse([]).train.ppo
    for name, preset in PRESETS.items():
        for devices in (1, 2):
            TrainConfig(env=name, ppo=preset).check(devices)


def test_a_flag_has_several_spellings():
    plain = config.parse(["--total-steps", "20000000", "--learning-rate", "1e-3"])
    other = config.parse(["--steps=20e6", "--ppo.learning_rate=0.001"])
    assert plain == other
    assert config.parse(["--no-anneal", "--policy-hidden", "8", "16"]).train.ppo.anneal is False


def test_yaml_round_trip_is_complete_and_exact(tmp_path: Path):
    ppo = PPOConfig(learning_rate=1e-5 / 3, policy_hidden=(8, 16), anneal=False, num_envs=6)
    train = TrainConfig(env="hopper", seed=12, episode_length=77, devices=2, ppo=ppo)
    text = config.to_yaml(train)
    for field in (*dataclasses.fields(TrainConfig), *dataclasses.fields(PPOConfig)):
        assert f"{field.name}:" in text
    assert config.parse(["--config", write(tmp_path / "c.yaml", text)]).train == train


def test_every_name_is_one_flag():
    """The learner's flags are not prefixed, so they must not meet the run's."""
    names = [
        f.name
        for kind in (TrainConfig, PPOConfig, config.Command)
        for f in dataclasses.fields(kind)
    ]
    assert len(names) == len(set(names))


def test_resume_reads_the_runs_own_configuration(tmp_path: Path):
    write(tmp_path / "config.yaml", config.to_yaml(TrainConfig(env="walker2d", seed=9)))
    command = config.parse(["--resume", str(tmp_path), "--steps", "5e6"])
    assert command.resume == tmp_path
    assert (command.train.env, command.train.seed) == ("walker2d", 9)
    assert command.train.ppo.total_steps == 5_000_000


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--env", "humanoyd"], "unknown environment 'humanoyd'; did you mean 'humanoid'?"),
        (["--num-env", "4"], "did you mean --num-envs?"),
        (["--nonsense"], "Unrecognized options: --nonsense"),
        (["--steps", "2.5"], "2.5 is not a whole number"),
        (["--steps", "many"], "--total-steps"),
        (["--spmd", "magic"], "'shard_map'"),
        (["--seed"], "--seed"),
        (["stray"], "stray"),
        (["--resume", "a", "--config", "b"], "leave out --config"),
        (["--resume", "a", "--out", "b"], "leave out --out"),
        (["--resume", "nowhere"], "nowhere/config.yaml: cannot be read"),
    ],
)
def test_mistakes_on_the_command_line(argv: list[str], expected: str):
    with pytest.raises(ConfigError) as caught:
        config.parse(argv)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "│" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ppo: {lerning_rate: 1}", "did you mean --learning-rate?"),
        ("seed: soon", "--seed"),
        ("[1, 2]", "expected names and values"),
        ("a: [", "cannot be read"),
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
    ],
)
def test_impossible_combinations(change: dict, devices: int, expected: str):
    learner = {k: v for k, v in change.items() if k in PPOConfig.__dataclass_fields__}
    run = {k: v for k, v in change.items() if k not in learner}
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**run, ppo=PPOConfig(**learner)).check(devices)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_shows_the_presets_values(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        config.parse(["--env", "humanoid", "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "--num-envs INT" in shown
    assert f"(default: {PRESETS['humanoid'].num_envs})" in shown
    for field in dataclasses.fields(PPOConfig):
        assert f"--{field.name.replace('_', '-')}" in shown
