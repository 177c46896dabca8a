"""Held-out data: had before a run trains, and none of another stream's."""

from __future__ import annotations

import logging

import pytest
from accelerate.state import AcceleratorState

from viewtime.configs.schema.train import TrainCommand
from viewtime.errors import UserError
from viewtime.train.loop import Trainer


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def test_held_out_data_that_cannot_be_had_end_a_run_before_it_trains(tiny):
    trainer = Trainer(tiny(validation={"every_steps": 100, "data": {"nonsense": 4}}))
    with pytest.raises(UserError, match=r"^validation: unknown key data\.options\.nonsense"):
        trainer.run()
    assert trainer.progress.step == 0


@pytest.mark.parametrize("options", [{"nonsense": 1}, {"size": "x"}, {"views": 0}, {"fixed": [1]}, {"seed": 1}])
def test_options_that_the_stream_does_not_have_are_one_line(tiny, options):
    with pytest.raises(UserError, match=r"data\.options"):
        Trainer(tiny(data__options=options)).run()


def test_another_stream_does_without_the_presets_held_out_data(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("viewtime"), "propagate", True)
    words = ["--config", "mini-debug"]
    other = [*words, "--data.factory", "grids", "--data.options", "{shards: s, resolution: 16}"]
    assert TrainCommand.from_argv(words, "t").validation.every_steps == 10
    assert not caplog.text
    assert TrainCommand.from_argv(other, "t").validation.every_steps == 0
    assert "no validation: that of mini-debug is for the stream synthetic" in caplog.text
    told = TrainCommand.from_argv([*other, "--validation.data", "{shards: t}"], "t")
    assert (told.validation.every_steps, told.validation.data) == (10, {"shards": "t"})
