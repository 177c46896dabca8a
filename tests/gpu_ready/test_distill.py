"""A whole step of every shot of `viewtime distill`'s presets on a card that is not there; full size is slow."""

import pytest
import torch

from benchmarks.fake_card import fake_card
from benchmarks.gpu_distill import PRESETS, SAMPLES, one_shot, shot_step, shots
from viewtime.recon.distill.published import architectures
from viewtime.recon.distill.running.estimate import SAMPLE_BYTES

REFUSED = ("mixed device", "launch", "index")
CASES = [(preset, 0, stage, shot) for preset in PRESETS for stage, shot in shots(preset)]
SHARED = [("4d-fy-code", 12, "appearance", "image"), ("4d-fy-code", 12, "motion", "video")]
QUICK = [("4d-fy-code", 0, "motion", "video"), SHARED[0], ("dream-in-4d-image", 0, "shape", "around")]
TABLE = 64  # numbers of a noise schedule that a step reads may be float64


@pytest.fixture
def tiny(monkeypatch):
    """Every network small; the sizes of pictures, field and embeddings stay."""
    flat = {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 8,
    }
    wide = {**flat, "cross_attention_dim": 1024}
    monkeypatch.setattr(architectures, "STABLE_DIFFUSION_2", {**wide, "use_linear_projection": True})
    monkeypatch.setattr(architectures, "ZERO123", {**flat, "in_channels": 8, "cross_attention_dim": 768})
    deep = {
        key: tuple(name.replace("2D", "3D") for name in wide[key]) for key in ("down_block_types", "up_block_types")
    }
    monkeypatch.setattr(architectures, "VIDEO", {**wide, **deep})
    kept = ("sample_size", "in_channels", "out_channels", "act_fn", "addition_embed_type", "encoder_hid_dim")
    pixels = {name: value for name, value in architectures.DEEPFLOYD_XL.items() if name in kept}
    simple = {"down_block_types": ("SimpleCrossAttnDownBlock2D",) * 2, "attention_head_dim": 16}
    monkeypatch.setattr(architectures, "DEEPFLOYD_XL", {
        **pixels, **flat, **simple, "cross_attention_dim": 64, "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 2,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
    })  # fmt: skip
    small = {**architectures.AUTOENCODER, "block_out_channels": (32,) * 4, "layers_per_block": 1}
    monkeypatch.setattr(architectures, "AUTOENCODER", small)


def check(preset, memory, stage, shot):
    with fake_card() as card:
        cost, fit = shot_step(card, preset, stage, shot, memory)
        frozen = fit.stage.shots[shot].frozen
        learning = {group["name"]: group["params"] for group in fit.optimizer.param_groups}
        without = {
            name: [p.device.type for p in parameters if p.grad is None or p.grad.device != p.device]
            for name, parameters in learning.items() if name not in frozen
        }  # fmt: skip
        devices = {p.device.type for parameters in learning.values() for p in parameters}
    assert not cost.of(*REFUSED), cost.of(*REFUSED)
    for fault in cost.of("float64"):
        shape = [int(size) for size in fault.detail.strip("(),").split(",") if size.strip()]
        assert torch.Size(shape).numel() <= TABLE, fault
    assert devices == {"cuda"}
    assert not any(without[name] for name in without if name not in ("background", "copy")), without
    assert len(fit.records) == 2
    assert not fit.records[-1]["skipped"]
    assert fit.records[-1]["losses"]
    return cost, without


@pytest.mark.parametrize("case", QUICK, ids=lambda case: " ".join(map(str, case)))
def test_small_networks(case, tiny):
    preset, memory, stage, shot = case
    cost, _ = check(*case)
    assert cost.peak > 2**29, "the field and its samples are at full size"
    if not memory and shot == "video":
        config = one_shot(preset, stage, shot)
        height, width, scenes = config.stages[stage].shots[shot].sizes[0]
        rays = height * width * scenes * config.stages[stage].shots[shot].frames
        assert 0.7 < cost.peak / (rays * SAMPLES * SAMPLE_BYTES) < 1.0, "what the estimate counts with"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES + SHARED, ids=lambda case: " ".join(map(str, case)))
def test_full_size(case):
    cost, without = check(*case)
    assert cost.peak < 80 * 2**30
    if case[-1] == "image":
        assert not without["copy"], "VSD's copy learns in the same step"
