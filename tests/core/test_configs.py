from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import tyro

from viewtime.cli import COMMANDS
from viewtime.configs import load
from viewtime.configs.command import parse
from viewtime.configs.load import build, yaml_value
from viewtime.configs.schema.export import ExportConfig
from viewtime.errors import UserError


@dataclass(frozen=True)
class Optimiser:
    rate: float = 1e-3
    steps: int = 10


@dataclass(frozen=True)
class Example:
    source: Annotated[str, tyro.conf.Positional]
    method: Literal["gaussians", "nerf"] = "gaussians"
    preset: str | None = None
    optimiser: Optimiser = field(default_factory=Optimiser)
    sizes: tuple[int, ...] = (64,)


def test_preset_and_command_line_override_in_that_order(tmp_path):
    preset = tmp_path / "fast.yaml"
    preset.write_text("method: nerf\noptimiser: {rate: 1e-4, steps: 5}\nsizes: [32, 64]\n")
    config = parse(Example, ["in.mp4", "--preset", str(preset), "--optimiser.steps", "7"], "test")
    assert config == Example("in.mp4", "nerf", str(preset), Optimiser(1e-4, 7), (32, 64))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"source": "a", "optimizer": {}}, "did you mean optimiser"),
        ({"source": "a", "optimiser": {"stps": 3}}, "did you mean steps"),
        ({"source": "a", "optimiser": {"steps": "many"}}, r"optimiser\.steps must be int"),
        ({"source": "a", "optimiser": {"steps": True}}, r"optimiser\.steps must be int"),
        ({"source": "a", "method": "nerv"}, "did you mean nerf"),
        ({}, "lacks the key source"),
    ],
)
def test_wrong_configs_name_the_key(mapping, message):
    with pytest.raises(UserError, match=message):
        build(Example, mapping)


def test_unknown_flags_are_misuse(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(Example, ["in.mp4", "--optimiser.stesp", "7"], "test")
    assert exit_.value.code == 2
    assert "--optimiser.steps" in capsys.readouterr().err


def test_unknown_presets_suggest_the_nearest(monkeypatch, tmp_path):
    (tmp_path / "mini.yaml").write_text("a: 1")
    monkeypatch.setattr(load, "PRESET_FOLDER", tmp_path)
    with pytest.raises(UserError, match="did you mean mini"):
        load.load_preset("minni")


def test_every_preset_names_the_command_that_takes_it():
    by_command = {command: set(load.presets(command)) for command in [*COMMANDS, "model"]}
    assert set().union(*by_command.values()) == set(load.presets())
    assert {"fast", "quality"} <= by_command["reconstruct"]
    assert {"sv4d", "sv4d2-8views"} <= by_command["model"]
    assert "command" not in load.load_preset("fast")


@pytest.mark.parametrize(
    ("command", "preset", "message"),
    [
        (
            "sample",
            "fast",
            "fast is a preset of viewtime reconstruct, and a preset of viewtime sample is needed here: .*sample-4real",
        ),
        (
            "reconstruct",
            "sv4d",
            "sv4d is a model's description, and a preset of viewtime reconstruct is needed here: fast, quality",
        ),
        ("model", "mini", "mini is a preset of viewtime train, and a model's description is needed here: .*sv4d2"),
    ],
)
def test_a_preset_of_another_command_is_refused(command, preset, message):
    with pytest.raises(UserError, match=message):
        load.load_preset(preset, command)


def test_a_file_of_ones_own_need_not_name_a_command(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("seed: 3\n")
    assert load.load_preset(own, "sample") == {"seed": 3}
    own.write_text("command: train\nseed: 3\n")
    with pytest.raises(UserError, match=r"own\.yaml is a preset of viewtime train"):
        load.load_preset(own, "sample")


@pytest.mark.parametrize(
    ("words", "formats", "layout"),
    [
        (["--format", "glb", "html"], ("glb", "html"), "diffusers"),
        (["--formats", "glb"], ("glb",), "diffusers"),
        (["--format", "stability"], ("glb",), "stability"),
        (["--format=spz"], ("spz",), "diffusers"),
    ],
)
def test_format_means_what_its_value_is(words, formats, layout):
    config = ExportConfig.from_argv(["a=b", *words], "viewtime export")
    assert (str(config.source), config.formats, config.layout) == ("a=b", formats, layout)


def test_an_empty_string_is_a_value():
    assert yaml_value("", "--x") == ""
    assert yaml_value("null", "--x") is None
    assert yaml_value(b"", "file") is None
