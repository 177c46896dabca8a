"""Checkpoints by shares: written behind the training, read by another number of processes, exported."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

from viewtime.errors import UserError, machine_failure
from viewtime.train.export import export_checkpoint
from viewtime.train.loop import Trainer
from viewtime.train.state import parts, saving
from viewtime.train.state.checkpoint import checkpoints
from viewtime.train.state.engine import recut
from viewtime.weights import read_header

from .conftest import losses, run_worker, start, write_config
from .test_distributed import apart, launcher


def test_what_is_written_behind_the_training_is_the_state_of_its_step(tiny, tmp_path, monkeypatch):
    """The write of step 4 begins once step 6 is done; resumed from there, the rest is as undisturbed."""
    Trainer(tiny(output=str(tmp_path / "whole"))).run()
    AcceleratorState._reset_state(True)
    config = tiny(checkpoint={"every_steps": 4, "background": True, "keep_last": 9})
    trainer, later = Trainer(config), threading.Event()
    writing, stepping = saving.write, trainer.step

    def late(*arguments):
        later.wait(60)
        writing(*arguments)

    def step(*arguments):
        stepping(*arguments)
        if trainer.progress.step == 6:
            assert not checkpoints(tmp_path / "run" / "checkpoints")
            later.set()

    monkeypatch.setattr(saving, "write", late)
    trainer.step = step  # type: ignore[method-assign]
    trainer.run()
    folder = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoints(folder)] == ["step_00000004", "step_00000008"]
    (folder / "step_00000008").rename(tmp_path / "last")
    AcceleratorState._reset_state(True)
    assert Trainer(config).run().step == 8
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_write_that_fails_behind_the_training_stops_it(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write", full)
    trainer = Trainer(tiny(checkpoint={"every_steps": 2, "background": True}))
    with pytest.raises(OSError, match="No space left"):
        trainer.run()
    assert trainer.progress.step < 8
    assert not checkpoints(tmp_path / "run" / "checkpoints")


def test_a_full_disk_under_torchs_writer_is_said_as_one(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "shards/__0_0.distcp")

    monkeypatch.setattr(parts.sharded.FileSystemWriter, "write_data", full)
    with pytest.raises(OSError, match="No space left") as raised:
        parts.write({"t": torch.ones(2)}, tmp_path / "shards", None)
    assert "the disk is full" in str(machine_failure(raised.value))


def test_every_tensor_has_one_writer_where_all_hold_it():
    tensors = {f"t{i}": torch.full((2,), float(i)) for i in range(7)}
    shares = [parts.own_share(tensors, rank, 3) for rank in range(3)]
    assert sorted(name for share in shares for name in share) == sorted(tensors)
    copy = parts.copied(tensors)
    tensors["t3"].add_(1)
    assert copy["t3"].tolist() == [3.0, 3.0]


def test_an_older_checkpoint_and_another_average_become_weights(tiny, tmp_path):
    """The last one's file is the run's own; step 4's is another; so is the longer average, and no average at all."""
    trainer = Trainer(tiny(ema={"lengths": [0.05, 0.2], "export": 0.2}, checkpoint={"every_steps": 4, "keep_last": 9}))
    trainer.run()
    folder = tmp_path / "run" / "checkpoints"
    choices = {"8": (8, "run"), "4": (4, "run"), "short": (8, 0.05), "none": (8, None)}
    made = {
        name: load_file(export_checkpoint(folder / f"step_{step:08d}", tmp_path / f"{name}.safetensors", length))
        for name, (step, length) in choices.items()
    }
    own = load_file(tmp_path / "run" / "weights.safetensors")
    assert own.keys() == made["8"].keys()
    assert all(torch.equal(own[key], made["8"][key]) for key in own)
    record, _ = read_header(tmp_path / "4.safetensors")
    assert (record["training"]["steps"], record["training"]["ema"]) == (4, 0.2)
    weights = dict(trainer.module.named_parameters())
    inside = next(name for name in weights if name.endswith("encoder.enter.weight"))
    assert torch.equal(weights[inside], made["none"]["encoder.enter.weight"])
    for name in ("4", "short", "none"):
        assert any(not torch.equal(own[key], made[name][key]) for key in own)
    with pytest.raises(UserError, match=r"has averages of 0\.05, 0\.2"):
        export_checkpoint(folder / "step_00000008", tmp_path / "x.safetensors", 0.1)
    with pytest.raises(UserError, match="is no checkpoint"):
        export_checkpoint(tmp_path, tmp_path / "x.safetensors")


def test_the_flat_pieces_of_averages_that_zero3_wrote_are_put_together(tiny, tmp_path):
    """Two processes' pieces, the second padded, as ZeRO-3 divides a parameter; ZeRO-2 writes one whole."""
    trainer = Trainer(tiny())
    trainer.run()
    whole = {key: value.contiguous() for key, value in trainer.ema.state_dict().items()}
    own = load_file(tmp_path / "run" / "weights.safetensors")
    (folder,) = checkpoints(tmp_path / "run" / "checkpoints")[-1:]
    shutil.rmtree(folder / "shards")
    for world in (1, 2):
        pieces = [dict(whole)] if world == 1 else [{}, {}]
        for key, value in whole.items() if world == 2 else ():
            flat = value.flatten()
            half = -(-len(flat) // 2)
            pieces[0][key] = flat[:half].clone()
            pieces[1][key] = torch.cat([flat[half:], torch.full((2 * half - len(flat),), 7.0)])
        for rank, piece in enumerate(pieces):
            save_file(piece, folder / f"ema_{rank}.safetensors")
        made = load_file(export_checkpoint(folder, tmp_path / f"{world}.safetensors"))
        assert all(torch.equal(own[key], made[key]) for key in own)
    with pytest.raises(UserError, match=r"zero_to_fp32\.py that DeepSpeed wrote"):
        export_checkpoint(folder, tmp_path / "x.safetensors", None)


@pytest.mark.parametrize(("before", "now"), [(4, 2), (4, 1), (2, 3), (3, 8)])
def test_flat_pieces_are_cut_anew_for_another_number_of_processes(before: int, now: int):
    whole, size = torch.arange(10.0), -(-10 // before)
    pieces = [recut([whole], 10, rank, before) for rank in range(before)]
    assert {len(piece) for piece in pieces} == {size}
    pieces[-1] = pieces[-1].clone()
    pieces[-1][10 - (before - 1) * size :] = 7.0  # what lies in the padding counts for nothing
    again = [recut(pieces, 10, rank, now) for rank in range(now)]
    assert {len(piece) for piece in again} == {-(-10 // now)}
    assert torch.equal(torch.cat(again)[:10], whole)
    assert not torch.cat(again)[10:].any()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["zero2", "zero3"])
def test_deepspeeds_four_processes_write_and_two_and_one_go_on_as_four(tmp_path, kind: str):
    """The same losses and averages after it, with the same grids in a step; moments and counts decide these.

    Those of four read a record of five: the data start anew for them too.
    """
    stages = [{"name": "only", "lr": 1e-3, "batch_size": 2, "steps": 12}]
    settings = {"device": "auto", "ema": {"lengths": [0.1]}, "stages": stages}
    settings["optimizer"] = {"eps": 1e-5, "weight_decay": 0.1}  # groups of parameters that differ
    config = write_config(tmp_path, **settings, checkpoint={"every_steps": 4, "keep_last": 9})

    def launch(world: int, folder: Path, *changes: str) -> None:
        accelerate = [*launcher(kind), "--num_processes", str(world)]
        done = start(["--config", str(config), "--output", str(folder), *changes], accelerate)
        assert done.returncode == 0, done.stderr[-3000:]

    launch(4, tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole" / "checkpoints" / "step_00000012")
    later, averages = {}, {}
    for world in (4, 2, 1):
        folder = tmp_path / f"by_{world}"
        shutil.copytree(tmp_path / "whole", folder)
        step = folder / "checkpoints" / "step_00000008"
        if world == 4:
            record = step / "run.json"
            record.write_text(record.read_text().replace('"readers": 4', '"readers": 5'))
        launch(world, folder, "--stages.0.batch_size", str(8 // world), "--allow-config-change")
        later[world] = [loss for step, loss in losses(folder).items() if step > 8]
        averages[world] = load_file(folder / "weights.safetensors")
        assert not (step / "universal").exists()
    assert len(later[4]) == 4
    for world in (2, 1):
        assert later[world] == pytest.approx(later[4], rel=1e-5)
        assert apart(averages[4], averages[world]) < 1e-5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_four_processes_write_and_two_and_one_go_on_as_four(tmp_path, kind: str):
    """Every weight, moment and average is the same; so are the losses after it, as in the test above."""
    stages = [{"name": "only", "lr": 1e-3, "batch_size": 2, "steps": 12}]
    settings = {"device": "auto", "ema": {"lengths": [0.05, 0.1]}, "stages": stages}
    config = write_config(tmp_path, **settings, checkpoint={"every_steps": 4, "background": True, "keep_last": 9})

    def launch(kind: str, world: int, folder: Path, *changes: str) -> str:
        run = [str(folder.with_suffix(".safetensors")), "--config", str(config), "--output", str(folder), *changes]
        return run_worker("tests.train.state_worker", kind, *run, processes=world).stderr

    launch(kind, 4, tmp_path / "whole")
    last = tmp_path / "whole" / "checkpoints" / "step_00000012"
    assert len({path.name.split("_")[2] for path in (last / "shards").glob("*.distcp")}) == 4
    shutil.rmtree(last)
    states, later = {}, {}
    for world in (4, 2, 1):
        folder = tmp_path / f"by_{world}"
        shutil.copytree(tmp_path / "whole", folder)
        record = folder / "checkpoints" / "step_00000008" / "run.json"
        if world == 4:
            record.write_text(record.read_text().replace('"readers": 4', '"readers": 5'))
        batch = ("--stages.0.batch_size", str(8 // world), "--allow-config-change")
        said = launch(kind if world > 1 else "ddp", world, folder, *batch)
        assert f"was written by {5 if world == 4 else 4} processes" in said
        states[world] = load_file(folder.with_suffix(".safetensors"))
        later[world] = [loss for step, loss in losses(folder).items() if step > 8]
    first = states.pop(4)
    assert sum("optimizer/" in name for name in first) > 40
    for other in states.values():
        assert first.keys() == other.keys()
        assert [name for name in first if not torch.equal(first[name], other[name])] == []
    assert len(later[4]) == 4
    assert later[2] == pytest.approx(later[4], rel=1e-5)
    assert later[1] == pytest.approx(later[4], rel=1e-5)


def test_resuming_with_another_number_of_processes_says_what_changes(tiny, tmp_path, caplog):
    """A record that says four: the weights are read, the data start in another order, the warning gives the factor."""
    Trainer(tiny()).run()
    saved = checkpoints(tmp_path / "run" / "checkpoints")
    whole = losses(tmp_path / "run")
    saved[-1].rename(tmp_path / "last")
    record = saved[0] / "run.json"
    record.write_text(record.read_text().replace('"readers": 1', '"readers": 4'))
    AcceleratorState._reset_state(True)
    with caplog.at_level(logging.WARNING):
        progress = Trainer(tiny()).run()
    assert "0.25 times as many grids" in caplog.text
    assert (progress.step, progress.data_starts) == (8, 1)
    again = losses(tmp_path / "run")
    assert [again[step] == whole[step] for step in range(1, 9)] == [True] * 4 + [False] * 4
