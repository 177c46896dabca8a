"""Whole runs in this process: stages, resuming, skipping, gates, refusal of a changed config."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from viewtime.configs.schema.sample import SamplerOptions
from viewtime.errors import UserError
from viewtime.files import read_jsonl
from viewtime.grid import FrameGrid
from viewtime.run_folder import plain
from viewtime.sample.metrics.evaluator import Settings, evaluate_pair
from viewtime.sample.models.mini_model import decode_cells
from viewtime.sample.pipeline import Pipeline
from viewtime.train import distributed
from viewtime.train.distributed import check_world
from viewtime.train.dry_run import describe
from viewtime.train.loop import Trainer
from viewtime.train.registry import build_model
from viewtime.train.state.checkpoint import checkpoints
from viewtime.train.state.same_config import check_config
from viewtime.train.streams.synthetic import SyntheticStream
from viewtime.train.watch.report import Report
from viewtime.train.watch.samples import measure
from viewtime.weights import read_header

from .conftest import losses


class KilledError(Exception):
    pass


def kill_after(trainer: Trainer, step: int) -> None:
    """Break the run off inside a step, as a kill does: nothing more is written."""
    inner = trainer.step

    def stepping(*arguments):
        if trainer.progress.step == step:
            raise KilledError
        inner(*arguments)

    trainer.step = stepping  # type: ignore[method-assign]


def two_stages() -> list[dict]:
    return [
        {"name": "static", "lr": 1e-3, "batch_size": 2, "steps": 5},
        {"name": "dynamic", "lr": 5e-4, "batch_size": 1, "steps": 5, "data": {"frames": 3}},
    ]


@pytest.mark.parametrize("killed_at", [3, 4, 6, 9])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_run_resumes_bit_equal(tiny, tmp_path, killed_at: int, optimizer: str):
    settings = {
        "stages": two_stages(),
        "optimizer": {"name": optimizer, "accumulate": 2},
        "checkpoint": {"every_steps": 2},
        "conditioning": {"masking": {"random": 1.0}, "dropout": {"known+known_frames": 0.3}},
        "schedule": {"warmup_steps": 2, "decay": "cosine", "decay_share": 0.5},
    }
    Trainer(tiny(**settings, output=str(tmp_path / "whole"))).run()
    AcceleratorState._reset_state(True)
    config = tiny(**settings, output=str(tmp_path / "killed"))
    broken = Trainer(config)
    kill_after(broken, killed_at)
    with pytest.raises(KilledError):
        broken.run()
    AcceleratorState._reset_state(True)
    torch.rand(17)  # other random numbers in between must not matter
    assert Trainer(config).run().step == 10
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_stages_change_data_and_learning_rate(tiny, tmp_path):
    Trainer(tiny(stages=two_stages(), schedule={"warmup_steps": 0}, ema={"lengths": []})).run()
    records = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [r["stage"] for r in records] == ["static"] * 5 + ["dynamic"] * 5
    assert [r["samples"] for r in records] == [2, 4, 6, 8, 10, 11, 12, 13, 14, 15]
    assert records[0]["lr"] == pytest.approx(1e-3)
    assert records[-1]["lr"] == pytest.approx(5e-4)


def test_the_last_k_and_every_nth_checkpoint_stay(tiny, tmp_path):
    Trainer(tiny(checkpoint={"every_steps": 1, "keep_last": 2, "keep_every": 3})).run()
    kept = [path.name for path in checkpoints(tmp_path / "run" / "checkpoints")]
    assert kept == ["step_00000003", "step_00000006", "step_00000007", "step_00000008"]
    record, tensors = read_header(tmp_path / "run" / "weights.safetensors")
    assert record["model"]["name"] == "mini"
    assert record["model"]["config"]["width"] == 32
    assert record["training"]["ema"] == 0.05
    assert "encoder.enter.weight" in tensors


def test_weights_are_sampled_with_the_noise_that_they_were_trained_with(tiny, tmp_path):
    Trainer(tiny(loss={"frame_noise": "shared"})).run()
    pipe = Pipeline.from_pretrained(str(tmp_path / "run" / "weights.safetensors"), device="cpu")
    video = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 4), np.uint8)
    for chosen, same in ((None, True), ("shared", True), ("independent", False)):
        settings = pipe.prepare(video, views=2, sampler=SamplerOptions(frame_noise=chosen)).settings
        first, second = settings.noise(0, [1], [0, 1], (4, 16, 16))[0]
        assert torch.equal(first, second) == same


def test_a_changed_config_is_refused_with_the_difference(tiny):
    Trainer(tiny()).run()
    changed = tiny(stages=[{"name": "only", "lr": 2e-3, "batch_size": 2, "steps": 10}])
    with pytest.raises(UserError, match=r"stages.0.lr: 0.001 -> 0.002; stages.0.steps: 8 -> 10"):
        Trainer(changed).run()
    allowed = dataclasses.replace(changed, allow_config_change=True)
    assert allowed.stages[0].steps == 10


def test_fields_that_came_with_an_upgrade_count_as_their_defaults(tiny, tmp_path):
    """The record as an older version wrote it: without a section, a stage's field, and one of the loss."""
    stages = [{"name": "only", "lr": 1e-3, "batch_size": 2, "steps": 8}]
    Trainer(tiny(stages=stages)).run()
    (*_, last) = checkpoints(tmp_path / "run" / "checkpoints")
    record = json.loads((last / "run.json").read_text())
    del record["config"]["student"], record["config"]["stages"][0]["loss"], record["config"]["loss"]["frame_noise"]
    (last / "run.json").write_text(json.dumps(record))
    named = {"size": 16, "width": 32, "depth": 2, "head_dim": 16, "stem_widths": [8, 16], "channels": 4}
    assert Trainer(tiny(model__config=named)).run().step == 8
    for changes, difference in (
        ({"student": {"steps": 2}}, r"student\.steps: 0 -> 2"),
        ({"loss": {"frame_noise": "shared"}}, r"loss\.frame_noise: independent -> shared"),
        ({"model__config": named | {"channels": 3}}, r"model\.config\.channels: 4 -> 3"),
    ):
        with pytest.raises(UserError, match=difference):
            check_config(record["config"], plain(tiny(**changes)), last)


def breaking(**config) -> dict:
    return {"name": "tests.train.breaking:Breaking", "config": config}


@pytest.mark.parametrize("where", ["output_at", "gradient_at"])
def test_non_finite_steps_are_skipped_and_counted(tiny, tmp_path, where: str):
    progress = Trainer(tiny(model=breaking(**{where: [3, 4]}), ema={"lengths": []})).run()
    assert (progress.step, progress.skipped) == (8, 2)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_00000008")
    AcceleratorState._reset_state(True)
    again = Trainer(tiny(model=breaking(**{where: [2]}), ema={"lengths": []}, allow_config_change=True)).run()
    assert (again.step, again.skipped) == (8, 3), "goes on although norms and losses on record are not finite"
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


def test_a_skipped_step_leaves_out_its_other_micro_batches(tiny):
    """NaN in the second micro-batch: the gradient of the first must not reach the next step."""
    trainer = Trainer(tiny(model=breaking(output_at=[4]), optimizer={"accumulate": 2}, ema={"lengths": []}))
    seen = []
    clip = trainer.accelerator.clip_grad_norm_

    def clipping(parameters, limit):
        parameters = list(parameters)
        seen.append([p.grad.clone() for p in parameters])
        return clip(parameters, limit)

    trainer.accelerator.clip_grad_norm_ = clipping
    stepping, before = trainer.step, []

    def watched(*arguments):
        before.append([p.grad for p in trainer.model.parameters()])
        stepping(*arguments)

    trainer.step = watched  # type: ignore[method-assign]
    assert trainer.run().skipped == 1
    finite = [all(bool(gradient.isfinite().all()) for gradient in gradients) for gradients in seen]
    assert finite == [True, False, *[True] * 6]
    assert all(gradient is None for gradients in before for gradient in gradients)


def test_too_many_non_finite_steps_stop_the_run(tiny):
    model = breaking(output_at=list(range(3, 99)))
    with pytest.raises(UserError, match="3 steps in a row had a non-finite loss"):
        Trainer(tiny(model=model, ema={"lengths": []}, optimizer={"skip_limit": 3})).run()


class BadStream(SyntheticStream):
    """Its third batch holds a NaN in one sample."""

    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 2:
                batch["cond"]["elevation"][1, 0, 0] = float("nan")
            yield batch


def bad_stream(options, *, batch_size, seed, rank, world):
    return BadStream(batch_size, seed, rank, world, **options)


def test_a_wrong_batch_names_the_sample_and_the_key(tiny):
    with pytest.raises(UserError, match=r"elevation has values that are not finite \(samples synthetic/5\)"):
        Trainer(tiny(data__factory=f"{__name__}:bad_stream")).run()


def test_a_missed_gate_stops_the_run_and_a_met_one_does_not(tiny, tmp_path):
    def with_limit(limit: float):
        gate = {"metric": "val/mse@1", "below": limit, "at_step": 4}
        return tiny(validation={"every_steps": 2, "data": {"fixed": 4}, "gates": [gate]})

    with pytest.raises(UserError, match=r"gate not met: val/mse@1 is .* at step 4, required below 0.0001"):
        Trainer(with_limit(1e-4)).run()
    AcceleratorState._reset_state(True)
    assert Trainer(dataclasses.replace(with_limit(50.0), output=str(tmp_path / "other"))).run().step == 8


def test_the_wall_clock_ends_a_run_with_the_rate_at_zero(tiny, tmp_path):
    config = tiny(
        stages=[{"name": "timed", "lr": 1e-3, "batch_size": 1, "seconds": 3.0}],
        schedule={"warmup_steps": 0, "decay": "linear", "decay_share": 1.0},
    )
    progress = Trainer(config).run()
    records = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert progress.seconds >= 3.0
    assert records[-1]["lr"] < 0.5 * records[0]["lr"]
    assert [r["lr"] for r in records] == sorted((r["lr"] for r in records), reverse=True)


def test_sampled_grids_are_measured_and_drawn(tiny, tmp_path):
    validation = {"every_steps": 8, "data": {"fixed": 4}, "batch_size": 2, "sample_steps": 3}
    Trainer(tiny(validation=validation)).run()
    record = read_jsonl(tmp_path / "run" / "metrics.jsonl")[-1]
    assert 0 < record["val/psnr"] < 60
    assert {"val/object_crop_psnr", "val/ssim", "val/mask_iou", "val/flicker"} <= record.keys()
    assert len(list((tmp_path / "run" / "samples").rglob("*.png"))) == 2


def test_validation_scores_are_those_of_evaluate():
    """The same grids through the function behind `viewtime evaluate`: unknown cells, alpha as it is, white behind."""
    truth = SyntheticStream(2, 0, 0, 1).batch([0, 1])["x0"]
    sampled = (truth + 0.3 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    unknown = torch.ones(truth.shape[:3], dtype=torch.bool)
    unknown[:, 0] = False
    found = measure(truth, sampled, unknown)
    settings = Settings(metrics=("psnr", "object_crop_psnr", "ssim", "mask_iou", "flicker"))
    each = [
        evaluate_pair(*(FrameGrid(decode_cells(grid[i]), ~unknown[i]) for grid in (sampled, truth)), settings)
        for i in range(2)
    ]
    for name in settings.metrics:
        assert found[f"val/{name}"] == pytest.approx(sum(values[name] for values in each) / 2), name
    assert 5 < found["val/psnr"] < 30
    assert torch.tensor(measure(truth, torch.full_like(truth, torch.nan), unknown)["val/psnr"]).isnan()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU for fp16")
def test_fp16_on_the_cpu_is_refused(tiny):
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        Trainer(tiny(precision="fp16"))


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.gpu)])
def test_reduced_precision_trains_close_to_fp32(tiny, tmp_path, monkeypatch, precision: str):
    if precision == "fp16" and not torch.cuda.is_available():
        pytest.skip("fp16 training needs CUDA")
    monkeypatch.setattr(distributed, "multiplies_bfloat16", lambda: True)
    for name, kind in (("full", "fp32"), ("reduced", precision)):
        AcceleratorState._reset_state(True)
        Trainer(tiny(precision=kind, output=str(tmp_path / name))).run()
    full, reduced = losses(tmp_path / "full"), losses(tmp_path / "reduced")
    assert full != reduced
    assert list(full.values()) == pytest.approx(list(reduced.values()), rel=0.05)


def test_bf16_on_a_processor_without_its_instructions_trains_in_fp32_and_says_so(tiny, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(distributed, "multiplies_bfloat16", lambda: False)
    for name, kind in (("full", "fp32"), ("asked", "bf16")):
        AcceleratorState._reset_state(True)
        Trainer(tiny(precision=kind, output=str(tmp_path / name))).run()
    assert losses(tmp_path / "full") == losses(tmp_path / "asked")
    assert "no bfloat16 instructions" in caplog.text


@pytest.mark.slow
def test_a_compiled_model_learns_the_same_and_its_flops_are_counted(tiny, tmp_path):
    records = {}
    for name, on in (("eager", False), ("compiled", True)):
        AcceleratorState._reset_state(True)
        Trainer(tiny(model__compile=on, output=str(tmp_path / name))).run()
        records[name] = read_jsonl(tmp_path / name / "metrics.jsonl")
    eager, compiled = (losses(tmp_path / name) for name in records)
    assert list(compiled.values()) == pytest.approx(list(eager.values()), rel=1e-3)
    rates = {name: found[-1]["tflops_per_process"] for name, found in records.items()}
    assert min(rates.values()) > 0


def test_counting_flops_leaves_no_trace(tiny, tmp_path, monkeypatch):
    """The same losses with and without the extra forward pass, also where the model draws random numbers."""
    settings = {"model": {"name": "tests.train.breaking:Noisy"}, "ema": {"lengths": []}}
    Trainer(tiny(**settings, output=str(tmp_path / "counted"))).run()
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(Report, "count_flops", lambda self, forward: None)
    Trainer(tiny(**settings, output=str(tmp_path / "uncounted"))).run()
    assert losses(tmp_path / "counted") == losses(tmp_path / "uncounted")
    assert read_jsonl(tmp_path / "counted" / "metrics.jsonl")[-1]["tflops_per_process"] > 0


def test_wandb_runs_offline_without_an_account(tiny, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "")  # restored after the test
    monkeypatch.delenv("WANDB_MODE")
    validation = {"every_steps": 8, "data": {"fixed": 4}, "batch_size": 2, "sample_steps": 2}
    Trainer(tiny(tracking={"log_every": 2, "trackers": ["wandb"]}, validation=validation)).run()
    logs = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(logs) == 1
    text = logs[0].read_bytes()
    assert b"samples_per_second" in text
    assert b"loss/0.4..0.6" in text
    assert len(list(logs[0].parent.rglob("media/images/val/grids*.png"))) == 2


def test_activation_checkpointing_changes_nothing(tiny, tmp_path):
    for name, on in (("plain", False), ("recomputed", True)):
        AcceleratorState._reset_state(True)
        Trainer(tiny(model__activation_checkpointing=on, output=str(tmp_path / name))).run()
    assert losses(tmp_path / "plain") == losses(tmp_path / "recomputed")


def test_lora_trains_adapters_and_exports_merged_weights(tiny, tmp_path):
    Trainer(tiny(output=str(tmp_path / "base"))).run()
    AcceleratorState._reset_state(True)
    base = tmp_path / "base" / "weights.safetensors"
    lora = {"target_modules": r".*attention\.qkv", "rank": 4, "alpha": 8}
    trainer = Trainer(tiny(model__weights=str(base), model__lora=lora))
    trained = [name for name, p in trainer.module.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    trainer.run()
    before, after = load_file(base), load_file(tmp_path / "run" / "weights.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("attention.qkv.weight")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_preemption_saves_and_the_same_command_goes_on(tiny, tmp_path, number: signal.Signals):
    Trainer(tiny(output=str(tmp_path / "whole"))).run()
    AcceleratorState._reset_state(True)
    config = tiny()
    trainer = Trainer(config)
    inner = trainer.step

    def stepping(*arguments):
        inner(*arguments)
        if trainer.progress.step == 3:
            os.kill(os.getpid(), number)

    trainer.step = stepping  # type: ignore[method-assign]
    assert trainer.run().step == 3
    assert trainer.stopped_by == number
    saved = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert json.loads((saved / "run.json").read_text())["progress"]["step"] == 3
    AcceleratorState._reset_state(True)
    assert Trainer(config).run().step == 8
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_asking_for_fsdp_on_the_cpu_is_refused(tiny, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="FSDP was asked for"):
        Trainer(tiny())


def test_a_launch_that_would_train_alone_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes were launched, but they train as 1"):
        check_world(1)


def test_dry_run_tells_parameters_memory_and_shapes(tiny):
    text = describe(tiny(stages=two_stages()))
    assert "layers" in text
    assert "x0 [2, 3, 2, 4, 16, 16]" in text
    assert "H200: at least" in text
    assert "fsdp2" in text
    assert "x0 [1, 3, 3, 4, 16, 16]" in text
    trained = sum(p.numel() for p in build_model(tiny().model).parameters())
    assert f"{trained * 4 / 1e9:.3f} GB" in text
