"""Numbers of a training step: what a seed draws, weights, averages, optimisers, a run's cost and record."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.pins import assert_pinned
from viewtime.configs.schema.loss import LossSection
from viewtime.configs.schema.train import ConditioningSection, ScheduleSection, TrackingSection
from viewtime.train.cost import StepCost
from viewtime.train.objective.conditioning import apply_conditioning, draw_mask
from viewtime.train.objective.losses import (
    add_noise,
    denoising_loss,
    draw_level,
    draw_noise,
    noised_batch,
    outline_errors,
    sample_errors,
    sample_generator,
    weight,
)
from viewtime.train.optimizers import Muon, orthogonalised
from viewtime.train.schedule import Progress, lr_factor
from viewtime.train.state.ema import PowerEma, gamma_from_sigma_rel, power_beta
from viewtime.train.streams.synthetic import SyntheticStream, synthetic_grid
from viewtime.train.watch import report
from viewtime.train.watch.report import Report, StepTimes, loss_by_level
from viewtime.train.watch.scale import Counts, memory_table, roofline, state_bytes


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_what_a_sample_draws() -> None:
    seeds = [(seed, index, purpose) for seed in (0, 3) for index in (0, 7) for purpose in (0, 2)]
    drawn = [int(torch.randint(1 << 24, (), generator=sample_generator(*seed))) for seed in seeds]
    assert len(set(drawn)) == len(drawn)
    assert_pinned("drawn", drawn, 1e-8)
    for name, options in {
        "flow": {}, "uniform": {"times": "uniform", "shift": 3.0}, "edm": {"kind": "edm", "weighting": "edm"},
        "mass": {"point_mass": 0.5, "point_mass_from": 0.9}, "moved": {"logit_mean": 0.5, "logit_std": 0.7},
    }.items():  # fmt: skip
        loss = LossSection(**options)
        assert_pinned(f"level {name}", [draw_level(loss, sample_generator(0, index)) for index in range(9)], 1e-6)
    for kind in ("independent", "shared"):
        loss = LossSection(frame_noise=kind)  # type: ignore[arg-type]
        assert_pinned(f"noise {kind}", draw_noise(torch.Size((2, 3, 2, 4, 4)), loss, sample_generator(1, 2)))
    known = torch.zeros(3, 2, 2, dtype=torch.bool)
    known[:, 0, 0] = True
    noised = noised_batch(noise(3, 2, 2, 1, 4, 4), known, LossSection(), [sample_generator(0, i) for i in range(3)])
    assert_pinned("noised", noised.x)
    assert_pinned("sigma", noised.sigma)


def test_weights_and_errors_by_hand() -> None:
    level = torch.tensor([0.05, 0.5])
    cases: list[tuple[dict[str, Any], list[float]]] = [
        ({}, [100, 4]),
        ({"weight_floor": 0.01}, [400, 4]),
        ({"weighting": "x0"}, [1, 1]),
        ({"weighting": "edm", "kind": "edm"}, [(0.0025 + 0.25) / 0.000625, 8.0]),
        ({"weighting": "min_snr"}, [5, 1]),
        ({"weighting": "min_snr", "kind": "edm", "min_snr_gamma": 7.0}, [7, 4]),
    ]
    for options, wanted in cases:
        assert weight(level, LossSection(**options)).tolist() == pytest.approx(wanted, rel=1e-5)
    x0, e = torch.full((1, 1, 1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1, 1, 1), 7.0)
    assert float(add_noise(x0, torch.tensor(0.25), e, "flow")) == 4
    assert float(add_noise(x0, torch.tensor(2.0), e, "edm")) == 17
    unknown = torch.tensor([[[True, False], [True, True]]])
    error = torch.tensor([1.0, 100.0, 2.0, 3.0]).reshape(1, 2, 2, 1, 1, 1).expand(1, 2, 2, 4, 2, 2)
    assert sample_errors(error, torch.zeros_like(error), unknown).tolist() == pytest.approx([(1 + 4 + 9) / 3])
    made, true = torch.zeros(1, 2, 2, 4, 2, 2), -torch.ones(1, 2, 2, 4, 2, 2)
    true[..., 0] = 1  # half of the picture; the prediction is unsure everywhere
    assert outline_errors(made, true, unknown).tolist() == pytest.approx([1 - 1 / 3])
    noised = noised_batch(true, ~unknown, LossSection(), [sample_generator(0, 0)], level=0.5)
    plain, _ = denoising_loss(made, true, noised, LossSection())
    both, per_sample = denoising_loss(made, true, noised, LossSection(outline=3.0))
    assert float(plain) == pytest.approx(4.0)
    assert float(both) == pytest.approx(6.0)
    assert per_sample.tolist() == pytest.approx([6.0])


def test_masks_and_dropped_conditions() -> None:
    for mode in ("first_view", "first_view_and_frame", "random"):
        masks = [draw_mask(mode, 3, 4, sample_generator(0, index)).tolist() for index in range(6)]
        assert_pinned(f"mask {mode}", masks)
    assert draw_mask("first_view", 1, 3, sample_generator(0, 0)).tolist() == [[True, True, False]]
    section = ConditioningSection(
        masking={"first_view": 0.25, "random": 0.75}, dropout={"azimuth+elevation": 0.5, "fov": 0.0, "text": 1.0}
    )
    x0 = noise(8, 2, 2, 1, 2, 2)
    cond = {"azimuth": torch.ones(8, 2, 2), "elevation": torch.ones(8, 2, 2), "fov": torch.ones(8)}
    cond["text"] = torch.ones(8, 3)
    made = apply_conditioning(x0, cond, section, [sample_generator(1, index) for index in range(8)])
    assert torch.equal(made["azimuth"], made["elevation"])
    assert 0 < made["azimuth"].mean() < 1
    assert made["fov"].all()
    assert not made["text"].any()
    assert torch.equal(made["known_frames"], x0 * made["known"][..., None, None, None])
    assert_pinned("known", made["known"])
    assert_pinned("kept", made["azimuth"][:, 0, 0])


def test_averages_follow_their_power() -> None:
    for gamma, sigma in ((6.94, 0.1), (16.97, 0.05)):  # EDM2, section 3.1
        assert gamma_from_sigma_rel(sigma) == pytest.approx(gamma, abs=0.005)
    assert power_beta(2.0, 10, 5) == 0.125
    assert power_beta(0.0, 4, 1) == 0.75
    module = nn.Linear(1, 1, bias=False)
    averages = PowerEma(module, [0.1])
    assert averages.gammas[0] == pytest.approx(6.94, abs=0.005)
    with torch.no_grad():
        module.weight.fill_(1.0)
        averages.averages[0]["weight"].fill_(0.0)
    averages.update(module, 10, 5)
    assert float(averages.of(0.1)["weight"]) == pytest.approx(1 - 0.5 ** (averages.gammas[0] + 1), rel=1e-6)
    averages.update(module, 10, 99)
    assert float(averages.of(0.1)["weight"]) == 1.0


def test_rates_of_learning() -> None:
    schedule = ScheduleSection(warmup_steps=4, decay="linear", decay_share=0.5, final=0.1)
    wanted = {(0, 0.0): 0.25, (3, 0.0): 1.0, (9, 0.5): 1.0, (9, 0.75): 0.55, (9, 1.0): 0.1, (1, 0.75): 0.275}
    for (step, share), factor in wanted.items():
        assert lr_factor(schedule, step, share) == pytest.approx(factor)
    cosine = replace(schedule, decay="cosine", warmup_steps=0)
    assert lr_factor(cosine, 0, 0.5 + 0.5 / 3) == pytest.approx(0.1 + 0.9 * 0.75)
    assert lr_factor(replace(schedule, decay="constant"), 9, 1.0) == 1.0


@pytest.mark.parametrize("native", [False, True])
def test_orthogonalised_matrices_in_both_number_formats(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: native)
    matrices = noise(2, 5, 3)
    found = orthogonalised(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    assert ((u @ v) * found).sum(dim=(1, 2)).div(3).tolist() == pytest.approx([1.0, 1.0], abs=0.2)
    if native:  # rounded five times over, so that single values differ by some hundredths
        values = torch.linalg.svdvals(found)
        assert 0.6 < values.min() < values.max() < 1.25
    else:
        assert_pinned("orthogonal", orthogonalised(matrices.double()).float(), 1e-4)


def test_optimisers_take_the_steps_that_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    parameters = [nn.Parameter(noise(4, 6, seed=1)), nn.Parameter(noise(6, seed=2))]
    groups = [{"params": [p], "use_muon": p.dim() == 2, "lr": 0.1, "weight_decay": 0.2} for p in parameters]
    optimizer = Muon(groups, 0.9, (0.8, 0.95), 1e-8)
    for step in range(3):
        for number, parameter in enumerate(parameters):
            parameter.grad = noise(*parameter.shape, seed=10 * step + number)
        optimizer.step()
    assert_pinned("muon", parameters[0].detach(), 1e-4)
    assert_pinned("adam", parameters[1].detach(), 1e-4)


def test_grids_without_files() -> None:
    for options in ((3, 2, 4, 16), (2, 3, 3, 12, 20)):
        grid, azimuth = synthetic_grid(5, 9, *options)
        assert_pinned(f"synthetic {options}", grid, 1e-3)
        assert_pinned(f"synthetic azimuth {options}", azimuth)
    stream = SyntheticStream(2, 0, 1, 3, fixed=7)
    names = [batch["ids"] for batch, _ in zip(stream, range(3))]
    assert names == [[f"synthetic/{i % 7}" for i in pair] for pair in ((2, 3), (8, 9), (14, 15))]
    again = SyntheticStream(2, 0, 1, 3, fixed=7)
    again.load_state_dict({"position": 2})
    assert next(iter(again))["ids"] == names[2]


def test_bytes_of_every_strategy_by_hand() -> None:
    """1000 weights of which 600 train, blocks of 100, two moments, one average; four processes."""
    counts = Counts(1000, 600, 100, 1200, 600)
    wanted = {  # bf16, then fp32
        "ddp": (4 * (1000 + 1200 + 1200 + 600),) * 2,
        "fsdp2": (4 * 3400 / 4 + 2 * 2 * 100, 4 * 3400 / 4 + 2 * 4 * 100),
        "zero3": (4 * 1800 / 4 + (2 * 1600 + 4 * 600) / 4 + 2 * 2 * 100, 1800 + (4 * 1600 + 2400) / 4 + 800),
        "zero2": (1800 + 2000 + 2 * 600 / 4 + 2400, 1800 + 4000 + 600 + 2400),
        "zero1": (1800 + 2000 + 1200 + 2400, 1800 + 4000 + 2400 + 2400),
    }
    for name, (short, full) in wanted.items():
        assert state_bytes(counts, name, 4, "bf16") == pytest.approx(short)
        assert state_bytes(counts, name, 4, "fp32") == pytest.approx(full)
    lines = memory_table(Counts(10**9, 10**9, 0, 2 * 10**9, 0), 5 * 10**8, "fp32", (1, 4))
    assert lines[0].split() == ["GPUs", "1", "4"]
    assert lines[1].split() == ["ddp", "20.50", "20.50"]
    assert lines[-1].split() == ["fsdp2", "16.50", "4.50"]


def test_the_least_time_of_a_step_by_hand() -> None:
    cost = StepCost(989 * 10**9, 0, 335 * 10**7, 0, 0)
    lines = roofline(cost, "bf16", 2, 1_800_000)
    assert lines[0].strip() == "1.978 TFLOP and at most 6.70 GB a step and process (295 FLOP/byte unfused)"
    assert lines[1].strip() == (
        "H100: at least 2.00 ms a step for its products, the run at least 1.00 h; unfused traffic takes 2.00 ms "
        "(balance at 295 FLOP/byte)"
    )
    assert "H100: at least 29.52 ms a step for its products; unfused" in roofline(cost, "fp32", 2, None)[1]


def test_losses_lie_in_the_buckets_of_their_levels() -> None:
    def config(kind: str, buckets: int) -> Any:
        return SimpleNamespace(tracking=SimpleNamespace(sigma_buckets=buckets), loss=SimpleNamespace(kind=kind))

    losses, level = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0.1, 0.3, 0.45, 1.0])
    assert loss_by_level(losses, level, config("flow", 4)) == {
        "loss/0..0.25": 1,
        "loss/0.25..0.5": 3,
        "loss/0.75..1": 8,
    }
    level = torch.tensor([1e-5, 0.05, 50.0, 1e5])
    assert loss_by_level(losses, level, config("edm", 4)) == {"loss/-2..-1": 1.5, "loss/1..2": 6}


def test_what_a_record_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=50.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now, perf_counter=lambda: clock.now)
    monkeypatch.setattr(report, "time", fake)
    accelerator = SimpleNamespace(is_main_process=True, device=torch.device("cpu"), gather=lambda values: values)
    tracking = TrackingSection(log_every=2, sigma_buckets=2, peak_flops=1e3)
    config: Any = SimpleNamespace(tracking=tracking, loss=LossSection(), optimizer=SimpleNamespace(accumulate=3))
    shown = Report(config, accelerator, tmp_path)
    shown.stage("only")
    network = nn.Linear(5, 7)
    shown.count_flops(lambda: network(torch.zeros(2, 5)))
    assert shown.flops_per_step == 3 * 3 * (2 * 2 * 5 * 7)
    shown.count_flops(lambda: pytest.fail("counted again"))
    times = StepTimes(accelerator.device)
    with times.measure("data"):
        clock.now += 0.5
    with times.measure("data"):
        clock.now += 1.5
    assert times.seconds == {"data": 2.0}
    for step in (1, 2):
        shown.margin(torch.tensor(0.25 * step))
        pair = (torch.tensor([1.0 * step, 3.0]), torch.tensor([0.2, 0.9]))
        clock.now += 3
        shown.step(Progress(step, 8 * step, 9.876), [pair], 0.7 * step, 1e-3, 4, times)
    (record,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    wanted = {
        "step": 2, "samples": 16, "stage": "only", "seconds": 9.88, "loss": 2.25, "lr": 1e-3, "grad_norm": 1.4,
        "samples_per_second": 1.0, "data_wait": 0.5, "tflops_per_process": 1260 * 2 / 8 / 1e12,
        "utilisation": 1260 * 2 / 8 / 1e3, "critic_margin": 0.375, "loss/0..0.5": 1.5, "loss/0.5..1": 3.0,
    }  # fmt: skip
    assert {name: record[name] for name in wanted} == pytest.approx(wanted)
    assert 0.05 < record["memory_gb"] < 500
    assert math.isclose(shown.since, clock.now)
    assert (shown.losses, shown.grids, shown.steps) == ([], 0, 0)
    report.keep_records_until(tmp_path / "metrics.jsonl", 1)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
