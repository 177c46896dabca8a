"""Signals, whatever the run is doing; checkpoints that are none; two runs in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.state import AcceleratorState

from viewtime.errors import Stopped, UserError
from viewtime.files import read_jsonl
from viewtime.run_lock import alone_in
from viewtime.train.command import run
from viewtime.train.loop import Trainer
from viewtime.train.state.checkpoint import checkpoints
from viewtime.train.state.engine import is_sharded
from viewtime.train.streams.synthetic import SyntheticStream
from viewtime.train.watch.validation import Validator

from .conftest import losses


class WaitingStream(SyntheticStream):
    """Sends this process SIGTERM in place of its fourth batch, and then waits as for a slow disk."""

    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(600)
            yield batch


def waiting_stream(options, *, batch_size, seed, rank, world):
    return WaitingStream(batch_size, seed, rank, world, **options)


def preparing_stream(options, *, batch_size, seed, rank, world):
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(600)


@pytest.mark.timeout(300)
def test_a_signal_is_heeded_while_data_are_waited_for_and_nothing_is_lost(tiny, tmp_path):
    Trainer(tiny(output=str(tmp_path / "whole"))).run()
    AcceleratorState._reset_state(True)
    stopped = Trainer(tiny(data__factory=f"{__name__}:waiting_stream"))
    assert stopped.run().step == 3
    assert stopped.stopped_by == signal.SIGTERM
    AcceleratorState._reset_state(True)
    assert Trainer(tiny(allow_config_change=True)).run().step == 8
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.timeout(300)
def test_a_signal_is_heeded_while_data_are_prepared_and_the_exit_code_says_so(tiny, tmp_path):
    with pytest.raises(Stopped, match="stopped by SIGUSR1 at step 0") as stop:
        run(tiny(data__factory=f"{__name__}:preparing_stream"))
    assert stop.value.number == signal.SIGUSR1
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.timeout(300)
def test_a_signal_is_heeded_inside_a_validation_which_is_made_up_for(tiny, tmp_path, monkeypatch):
    validation = {"every_steps": 4, "data": {"fixed": 4}, "batch_size": 2}
    Trainer(tiny(validation=validation, output=str(tmp_path / "whole"))).run()
    AcceleratorState._reset_state(True)
    config = tiny(validation=validation)
    trainer = Trainer(config)
    real = Validator.error_at

    def killing(self, model, level, signals):
        if trainer.progress.step == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, model, level, signals)

    with monkeypatch.context() as patch:
        patch.setattr(Validator, "error_at", killing)
        assert trainer.run().step == 8
    assert trainer.stopped_by == signal.SIGTERM
    AcceleratorState._reset_state(True)
    Trainer(config).run()
    scores = [
        {r["step"]: r["val/mse@1"] for r in read_jsonl(tmp_path / name / "metrics.jsonl") if "val/mse@1" in r}
        for name in ("whole", "run")
    ]
    assert scores[0] == scores[1]


def test_a_folder_without_its_record_is_no_checkpoint_and_a_step_is_replaced_whole(tiny, tmp_path):
    trainer = Trainer(tiny())
    trainer.run()
    folder = tmp_path / "run" / "checkpoints"
    (folder / "step_00000099").mkdir()
    (folder / "step_00000099" / "stream_0.json").write_text("{}")
    assert checkpoints(folder)[-1].name == "step_00000008"
    trainer.save()  # of the same step again
    assert checkpoints(folder)[-1].name == "step_00000008"
    assert not list(folder.glob(".*"))
    (folder / "step_00000008" / "run.json").write_text('{"progress": {"step": "8"}, "world": 1, "config": {}}')
    AcceleratorState._reset_state(True)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        Trainer(tiny()).run()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "harm", "words"),
    [
        ("run.json", _cut, r"run\.json is damaged: .*; delete .*step_00000006 to resume from the one before"),
        ("stream_0.json", Path.unlink, r"no such file: .*stream_0\.json; delete .* to resume from the one before"),
        (
            "stream_0.json",
            lambda path: path.write_text("{}"),
            r"is damaged \(no 'position'\); delete .*step_00000006 to",
        ),
        (
            "shards/.metadata",
            lambda path: path.write_bytes(b"cnowhere\nnothing\n."),
            "No module named 'nowhere'.; delete",
        ),
        ("shards/__0_0.distcp", Path.unlink, r"\(\[Errno 2\] No such file .*__0_0\.distcp'\); delete"),
    ],
)
def test_what_is_damaged_in_a_checkpoint_is_named_with_the_way_out(tiny, tmp_path, name, harm, words):
    """The way out is tried: without the damaged one the run goes on, without any it begins anew."""
    config = tiny(checkpoint={"every_steps": 2, "keep_last": 3})
    Trainer(config).run()
    older, newest, last = checkpoints(tmp_path / "run" / "checkpoints")
    shutil.rmtree(last)
    for folder, told in ((newest, words), (older, "; delete .*step_00000004 to begin anew")):
        harm(folder / name)
        AcceleratorState._reset_state(True)
        with pytest.raises(UserError, match=told):
            Trainer(config).run()
        shutil.rmtree(folder)
    AcceleratorState._reset_state(True)
    assert Trainer(config).run().step == 8


def test_two_trainings_in_one_folder_are_refused(tiny, tmp_path):
    with alone_in(tmp_path / "run"), pytest.raises(UserError, match="another run is writing to"):
        run(tiny())


def test_checkpoints_that_a_kill_left_unthinned_are_thinned_by_the_complete_run(tiny, tmp_path):
    config = tiny(checkpoint={"every_steps": 4, "keep_last": 1})
    Trainer(config).run()
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(folder / "step_00000008", folder / "step_00000004")
    shutil.copytree(folder / "step_00000008" / "shards", folder / ".step_00000002.partial")
    AcceleratorState._reset_state(True)
    assert Trainer(config).run().step == 8
    assert [path.name for path in folder.iterdir()] == ["step_00000008"]


@pytest.mark.parametrize(
    ("plugin", "kind", "sharded"),
    [
        (None, "DistributedType.NO", False),
        (SimpleNamespace(zero_stage=2), "DistributedType.DEEPSPEED", False),
        (SimpleNamespace(zero_stage=3), "DistributedType.DEEPSPEED", True),
        (None, "DistributedType.FSDP", True),
    ],
)
def test_parameters_are_in_parts_under_zero3_and_fsdp_alone(plugin, kind, sharded):
    """Elsewhere the averages are one file, written by one process."""
    assert is_sharded(SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin), distributed_type=kind)) is sharded
