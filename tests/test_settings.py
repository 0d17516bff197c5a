"""Layers of configuration, and mistakes that are refused with the field's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import archer
from archer.algorithms.presets import PRESETS
from archer.cli.commands import Train
from archer.cli.training import settings
from archer.config import RunConfig
from archer.config.layers import ConfigError, Layer, build, load_yaml, overlay, parse_assignment, to_yaml
from archer.recipe import check_label
from archer.storage.runfolder import RunFolder


def test_flags_beat_the_file_and_the_file_beats_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("critic:\n  lr: 0.001\n  updates: 7\niterations: 9\n")
    config = settings(Train(preset="archer-paper", config=path, set=("critic.updates=8",), seed=4))
    assert (config.critic.lr, config.critic.updates, config.iterations, config.seed) == (0.001, 8, 9, 4)
    assert (config.model.actor, config.actor.siblings, config.preset) == ("gpt2", 1, "archer-paper")


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_a_recipe_is_chosen_wherever_its_name_stands(tmp_path: Path) -> None:
    wanted = settings(Train(preset="ppo", env="twenty-questions"))
    assert (wanted.critic.method, wanted.actor.advantage, wanted.model.tiny.layers) == ("tokens", "token_gae", 4)
    file = _file(tmp_path, "preset: ppo\nenv:\n  name: twenty-questions\n")
    assert settings(Train(config=file)) == wanted
    assert settings(Train(set=("preset=ppo", "env.name=twenty-questions"))) == wanted
    assert settings(Train(preset="ppo", set=("env.name=twenty-questions",))) == wanted
    assert archer.configure("ppo", env="twenty-questions") == wanted
    changed = archer.configure("ppo", env="twenty-questions", changes={"critic": {"lr": 2e-4}})
    assert (changed.critic.lr, changed.critic.method) == (2e-4, "tokens")


def test_what_a_run_shows_is_read_as_it_stands(tmp_path: Path) -> None:
    shown = settings(Train(preset="grpo", env="web-shop", set=("env.options.kinds=3", "rollout.games=16")))
    assert settings(Train(config=_file(tmp_path, to_yaml(shown)))) == shown


def test_a_flag_names_another_task_than_the_file(tmp_path: Path) -> None:
    found = settings(Train(config=_file(tmp_path, "env:\n  name: maze\n"), env="twenty-questions"))
    assert (found.env.name, found.rollout.history, found.model.tiny.layers) == ("twenty-questions", "append", 4)
    files = _file(tmp_path, "demonstrations:\n  files: [a.jsonl]\n")
    assert settings(Train(config=files, offline=(Path("b.jsonl"),))).demonstrations.files == ("b.jsonl",)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Train(set=("preset=nonsense",)), r"--set: unknown preset 'nonsense'. Known: archer, "),
        (Train(set=("preset=[1]",)), r"--set: unknown preset \[1\]"),
        (Train(preset="nope"), r"--preset: unknown preset 'nope'"),
        (Train(set=("env.name=[1]",)), r"env\.name: .* got \[1\]"),
        (Train(set=("env.options={[1]: 2}",)), r"env\.options: the value .* is not YAML"),
        (Train(preset="ppo", set=("preset=grpo",)), r"--set: preset is 'grpo', and --preset says 'ppo'; leave one"),
    ],
)
def test_a_recipe_that_is_none_is_refused(command: Train, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(command)


def test_two_recipes_are_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, "seed: 1\npreset: grpo\n")
    with pytest.raises(ConfigError, match=r"--preset: preset is 'ppo', and .*c\.yaml, line 2 says 'grpo'"):
        settings(Train(preset="ppo", config=file))


def test_python_refuses_two_recipes_too() -> None:
    with pytest.raises(ConfigError, match="changes: preset is 'grpo', and configure says 'ppo'"):
        archer.configure("ppo", changes={"preset": "grpo"})


def test_files_alone_have_the_recipe_for_files() -> None:
    files = (Path("a.jsonl"),)
    wanted = settings(Train(offline=files))
    assert wanted.preset == "archer-offline" and wanted.env.name is None
    assert settings(Train(offline=files, set=("env.name=null",))) == wanted
    assert settings(Train(offline=files, env="maze")).preset == "archer"


def test_a_run_to_begin_from_gives_its_settings_however_it_is_named(tmp_path: Path) -> None:
    earlier = RunFolder.create(tmp_path / "run", archer.configure("ppo", changes={"rollout": {"layout": "transcript"}}))
    wanted = settings(Train(start_from=earlier.path))
    assert (wanted.rollout.layout, wanted.critic.method) == ("transcript", "tokens")
    assert settings(Train(set=(f"start_from={earlier.path}",))) == wanted
    other = RunFolder.create(tmp_path / "shop", archer.configure("bc", "web-shop", {"env": {"options": {"shown": 5}}}))
    goes_on = settings(Train(start_from=other.path, preset="ppo"))  # with the task that its actor knows
    assert (goes_on.env, goes_on.critic.method) == (other.config().env, "tokens")
    assert goes_on.rollout.max_tokens == settings(Train(preset="ppo", env="web-shop")).rollout.max_tokens
    assert settings(Train(start_from=other.path, preset="ppo", env="maze")).env.options == {}
    assert settings(Train(config=_file(tmp_path, f"start_from: {earlier.path}\n"))) == wanted


def test_a_name_alone_is_no_recipe(tmp_path: Path) -> None:
    """Comparisons would show the one method's results under the other's name."""
    for config, message in (
        (RunConfig(preset="ppo"), r"archer\.configure\('ppo'\)"),
        (RunConfig(preset="nonsense"), "unknown preset 'nonsense'. Known: archer, "),
    ):
        with pytest.raises(ConfigError, match=message):
            archer.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for name in PRESETS:
        for env in ("twenty-questions", "service-desk", "twenty-questions-10", "mine:Env"):
            check_label(archer.configure(name, env))
    check_label(archer.configure("archer-offline", None, {"demonstrations": {"files": ["a.jsonl"]}}))


def test_yaml_round_trip_is_complete(tmp_path: Path) -> None:
    config = overlay(RunConfig(), {"env": {"options": {"max_turns": 5}}, "actor": {"kl": 0.5}}, "test")
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(config))
    assert load_yaml(RunConfig(), path) == config


def test_a_text_that_looks_like_a_number_stays_one(tmp_path: Path) -> None:
    options = {"a": "1e5", "b": "12e4", "c": "7", "d": "true", "e": 1e-5, "f": "1.5"}
    config = overlay(RunConfig(), {"env": {"options": options}, "model": {"actor": "12e4"}}, "test")
    assert load_yaml(RunConfig(), _file(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("env", ["twenty-questions", "twenty-questions-10", "mine:Env"])
def test_every_preset_is_a_valid_configuration(name: str, env: str) -> None:
    assert settings(Train(preset=name, env=env)).env.name == env


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("critic.lrr=1", r"--set: unknown setting critic\.lrr; did you mean critic\.lr\?"),
        ("critic.lr=3", r"critic\.lr: Input should be less than 1, got 3"),
        ("critic.lr=fast", r"critic\.lr: Input should be a valid number.*got 'fast'"),
        ("critic=3", r"critic holds settings of its own"),
        ("actor.advantage=best", r"actor\.advantage: Input should be 'value', 'siblings', .*got 'best'"),
        ("actor={utterances: fresh, advantage: siblings, siblings: 1}", r"siblings must be at least 2"),
        ("critic.demonstrations=2", r"critic\.demonstrations: Input should be less than or equal to 1"),
        ("iterations=-1", r"iterations: Input should be greater than or equal to 0"),
        ("iterations", r"name=value"),
    ],
)
def test_mistakes_name_the_field_and_what_is_allowed(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overlay(RunConfig(), parse_assignment(assignment), "--set")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"critic_start": {"epochs": 0}}, r"actor_start\.epochs=1 .* critic_start\.epochs is 0; set both to 0"),
        (
            {"critic": {"method": "tokens"}, "actor": {"advantage": "token_gae"}, "rollout": {"best_of": 0}},
            r"actor_start\.epochs=1 .* critic\.method='tokens' has no Q; set actor_start\.epochs=0",
        ),
        ({"critic": {"method": "tokens"}, "actor": {"advantage": "token_gae"}}, r"rollout\.best_of=10 lets Q choose"),
        (
            {"actor": {"advantage": "gae"}},
            r"actor\.advantage='gae' is of games that were played, but actor\.demonstrations=0\.25 of every batch",
        ),
        (
            {"model": {"compile": True}, "rollout": {"overlap": True, "best_of": 0}},
            r"set model\.compile or rollout\.over",
        ),
        (
            {"demonstrations": {"games": 0}, "rollout": {"games": 0}},
            r"rollout\.games=0 plays nothing, and with demonstrations\.games=0 nothing is left",
        ),
    ],
)
def test_a_start_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overlay(RunConfig(), changes, "test")


def test_a_baseline_without_a_critic_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"actor\.method='baseline' .* there is no critic; set critic\.method, or"):
        settings(Train(preset="grpo", set=("actor.method=baseline",)))


def test_numbers_may_be_written_as_people_write_them() -> None:
    assert parse_assignment("critic.lr=1e-4") == {"critic": {"lr": 1e-4}}
    assert parse_assignment("seed=3") == {"seed": 3}
    assert parse_assignment("env.options={max_turns: 5}") == {"env": {"options": {"max_turns": 5}}}


def test_numbers_in_a_file_too(tmp_path: Path) -> None:
    text = "critic:\n  lr: 1e-4\nactor:\n  lr: 2.5E-5\n  kl: 1e0\nenv:\n  options: {a: .5e+1, b: e1, c: 1e, d: 1-4}\n"
    found = load_yaml(RunConfig(), _file(tmp_path, text))
    assert (found.critic.lr, found.actor.lr, found.actor.kl) == (1e-4, 2.5e-5, 1.0)
    assert found.env.options == {"a": 5.0, "b": "e1", "c": "1e", "d": "1-4"}


def test_a_file_that_is_not_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match=r"c\.yaml must hold settings"):
        load_yaml(RunConfig(), path)
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load_yaml(RunConfig(), tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_yaml(RunConfig(), _file(tmp_path, "{{lr}}: 1\n"))


def test_parts_of_a_file_may_be_shared(tmp_path: Path) -> None:
    text = "env:\n  options: &common {a: 1}\nrollout:\n  vllm:\n    <<: *common\n    <<: *common\n  engine: vllm\n"
    assert load_yaml(RunConfig(), _file(tmp_path, text)).rollout.vllm == {"a": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\ncritic:\n  updates: 7\n  lrr: 1\n", r"c\.yaml, line 4: unknown setting critic\.lrr; did you mean"),
        ("seed: 1\ncritic:\n  lr: 3\n", r"c\.yaml, line 3: critic\.lr: .*got 3"),
        ("seed: 1\n\nactor:\n  kl: 0.1\n  epochs: 2\n", r"c\.yaml, line 5: actor: .*epochs=2 takes several steps"),
        ("seed: 1\ncritic: 4\n", r"c\.yaml, line 2: critic holds settings of its own"),
        ("seed: true\n", r"c\.yaml, line 1: seed: .*integer, got True"),
        ("critic:\n  lr: '1e-3'\n", r"c\.yaml, line 2: critic\.lr: .*number, got '1e-3'"),
        ("seed: [1\n", r"c\.yaml is not YAML"),
        (
            "critic:\n  lr: 0.1\nseed: 3\ncritic:\n  updates: 2\n",
            r"'critic' stands here for the second time.*\n.*line 4",
        ),
    ],
)
def test_mistakes_in_a_file_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_yaml(RunConfig(), path)


def test_a_file_or_a_flag_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"c\.yaml is not text in UTF-8"):
        load_yaml(RunConfig(), path)
    with pytest.raises(ConfigError, match=r"env\.options: the value '\[1' is not YAML"):
        parse_assignment("env.options=[1")


def test_options_of_a_task_add_up_until_there_is_another_task() -> None:
    layers = [Layer(parse_assignment(text), "--set") for text in ("env.options.max_turns=5", "env.options.objects=ten")]
    config = build(RunConfig(), layers)
    assert config.env.options == {"max_turns": 5, "objects": "ten"}
    assert overlay(config, {"env": {"options": {"max_turns": 6}}}, "test").env.options["objects"] == "ten"
    same = overlay(config, {"env": {"name": config.env.name}}, "test")
    assert same.env.options == config.env.options
    assert overlay(config, {"env": {"name": "maze"}}, "test").env.options == {}
    other = overlay(config, {"env": {"options": {"layout": "u"}, "name": "maze"}}, "test")
    assert other.env.options == {"layout": "u"}
