"""A kept state goes on under a version whose options have grown, and only under one that asks for the same."""

import json
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path

import pytest

from viewtime.configs.earlier import mark_of, read_mark, same_mark
from viewtime.configs.schema.curate import CurateConfig
from viewtime.configs.schema.distill import DistillConfig
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.configs.schema.sample import SampleConfig
from viewtime.data.curation.command import _mark, run
from viewtime.errors import UserError
from viewtime.recon.distill.running.loop import run_mark
from viewtime.recon.fitting.resume import keep_states
from viewtime.run_folder import plain


@dataclass(frozen=True)
class Inner:
    width: float = 1.5
    sides: tuple[int, ...] = (2, 3)


@dataclass(frozen=True)
class Options:
    name: str
    limit: float = float("inf")
    inner: Inner = field(default_factory=Inner)


NOW = mark_of(plain(Options("a")), "rest")


@pytest.mark.parametrize(
    ("before", "same"),
    [
        ({"name": "a", "limit": float("inf"), "inner": {"width": 1.5, "sides": [2, 3]}}, True),
        ({"name": "a"}, True),
        ({"name": "a", "inner": {"width": 1.5}}, True),
        ({"name": "a", "inner": {"width": 2.5}}, False),
        ({"name": "b"}, False),
        ({}, False),
        ({"name": "a", "gone": 1}, False),
        ({"name": "a", "inner": {"gone": 1}}, False),
        ({"name": "a", "inner": [1]}, False),
    ],
)
def test_what_an_earlier_version_did_not_write_counts_as_its_default(before, same):
    assert same_mark(Options, {"options": before, "rest": "rest"}, NOW) is same
    assert not same_mark(Options, {"options": before, "rest": "other"}, NOW)


def test_an_option_without_effect_may_have_been_written(tmp_path):
    now = mark_of({"name": "a"}, "")
    assert same_mark(Options, {"options": {"name": "a", "limit": 7}, "rest": ""}, now)
    for damaged in ("", "[", "[" * 100_000, "3", '{"options": 3, "rest": ""}', '"hex digest of an earlier version"'):
        (tmp_path / "mark").write_text(damaged)
        assert not same_mark(Options, read_mark(tmp_path / "mark"), now)


CONFIGS = {
    "sample": SampleConfig(video="in.mp4"),
    "reconstruct": ReconstructConfig(grid=Path("grid")),
    "distill": DistillConfig.from_argv(["a knight", "--config", "4d-fy-debug"], "test"),
    "curate": CurateConfig("in"),
}


@pytest.mark.parametrize("command", CONFIGS)
def test_every_command_goes_on_after_a_field_was_added(command, tmp_path):
    """The marks of the real configs under a class of the same name with one more field, and one in its last section."""
    config = CONFIGS[command]
    schema = type(config)
    before = mark_of(plain(config), "r")
    grown = make_dataclass(schema.__name__, [("came_since", int, field(default=4))], bases=(schema,), frozen=True)
    values = {item.name: getattr(config, item.name) for item in fields(schema)}
    assert same_mark(grown, before, mark_of(plain(grown(**values)), "r"))
    assert not same_mark(grown, before, mark_of(plain(grown(**values, came_since=5)), "r"))
    state = tmp_path / "state.pt"
    for changed, kept in ((4, True), (5, False)):
        keep_states(tmp_path, ("state.pt",), schema, before, True)
        state.write_bytes(b"x")
        keep_states(tmp_path, ("state.pt",), grown, mark_of(plain(grown(**values, came_since=changed)), "r"), True)
        assert state.is_file() == kept


def test_curation_and_distillation_mark_their_own_options(tmp_path):
    config = CurateConfig(str(tmp_path / "in"), str(tmp_path / "out"), licence="CC0")
    assert _mark(config) == _mark(replace(config, out="elsewhere", workers=5, limit=3, max_failed_share=0.9))
    assert _mark(config) != _mark(replace(config, limits=replace(config.limits, max_triangles=7)))
    distilled = CONFIGS["distill"]
    assert isinstance(distilled, DistillConfig)
    assert run_mark(distilled)["options"]["seed"] == distilled.seed
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.glb").write_bytes(b"no model")
    run(config)
    written = json.loads((tmp_path / "out" / "settings.json").read_text())
    del written["options"]["animated"]
    written["options"]["limits"].popitem()
    (tmp_path / "out" / "settings.json").write_text(json.dumps(written))
    run(config)
    written["options"]["licence"] = "MIT"
    (tmp_path / "out" / "settings.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="another source, licence or limits"):
        run(config)


def test_a_curation_whose_mark_is_a_digest_is_known_by_its_config(tmp_path):
    config = CurateConfig(str(tmp_path / "in"), str(tmp_path / "out"), licence="CC0")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.glb").write_bytes(b"no model")
    run(config)
    (tmp_path / "out" / "settings.json").write_text('{"fingerprint": "17870621c85869fb"}')
    with pytest.raises(UserError, match="another source, licence or limits"):
        run(replace(config, licence="MIT"))
    run(config)
    assert "options" in json.loads((tmp_path / "out" / "settings.json").read_text())
