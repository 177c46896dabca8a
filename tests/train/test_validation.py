"""Held-out data: had before a run trains, and none of another stream's."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from viewtime.configs.schema.train import TrainCommand
from viewtime.errors import UserError
from viewtime.train.loop import Trainer


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


def test_validations_and_checkpoints_are_due_at_every_nth_step_or_second(tiny, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("viewtime.train.loop.time", SimpleNamespace(monotonic=lambda: clock.now))

    def due(**times) -> tuple[list[int], list[int]]:
        """Steps of four seconds each after which (a validation, a checkpoint) is due."""
        trainer = Trainer(tiny(validation={"data": {"fixed": 4}, **times}, checkpoint={"every_steps": 0, **times}))
        found: tuple[list[int], list[int]] = ([], [])
        trainer.saved_at = 0.0
        for step in range(1, 7):
            trainer.progress.step, trainer.progress.seconds, clock.now = step, 4.0 * step, 4.0 * step
            if trainer.validator.due(trainer.progress):
                found[0].append(step)
                trainer.validator.last_seconds = trainer.progress.seconds
            if trainer.save_due(trainer.late(clock.now)):
                found[1].append(step)
                trainer.saved_at = clock.now
        return found

    for times, steps in (
        ({"every_steps": 1}, [1, 2, 3, 4, 5, 6]),
        ({"every_steps": 3}, [3, 6]),
        ({"every_seconds": 1.0}, [1, 2, 3, 4, 5, 6]),
        ({"every_seconds": 8.0}, [2, 4, 6]),
        ({"every_steps": 4, "every_seconds": 12.0}, [3, 4]),
    ):
        assert due(**times) == (steps, steps), times
