"""Steps on tensors without values: devices and dtypes agree, and what memory they take. Full size is slow."""

import pytest
import torch

from viewtime.recon.distill.memory import GIB, pretended, pretended_step, step_memory
from viewtime.recon.distill.objectives import OneStep, Reconstruction, Sds, Vsd
from viewtime.recon.distill.published import architectures
from viewtime.recon.distill.published.open import GuidanceOptions

# name, objective, (scenes, views, frames), (height, width) of the render; those of the papers' stages
STEPS = {
    "4d-fy 3d": ("mvdream", Reconstruction(), (1, 4, 1), (256, 256)),
    "4d-fy image": ("sd-2.1-base", Vsd(), (1, 1, 1), (256, 256)),
    "4d-fy video": ("zeroscope", Sds(), (1, 1, 16), (160, 288)),
    "dream-in-4d image": ("sd-2.1-base", Sds(), (1, 4, 1), (256, 256)),
    "dream-in-4d motion": ("zeroscope", OneStep(), (1, 1, 24), (80, 144)),
    "dream-in-4d reference": ("zero123-xl", Sds(3.0, "B"), (2, 1, 1), (256, 256)),
    "dream-in-4d pixels": ("deepfloyd-if", Sds(20.0), (2, 1, 1), (256, 256)),
}
DTYPES = {"mvdream": torch.float32, "zero123-xl": torch.float32}
LEVELS_2D = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 4,
}


@pytest.fixture
def tiny(monkeypatch):
    """Every network small; the sizes of pictures stay."""
    flat = {**LEVELS_2D, "cross_attention_dim": 64}
    monkeypatch.setattr(architectures, "STABLE_DIFFUSION_2", {**flat, "use_linear_projection": True})
    monkeypatch.setattr(architectures, "ZERO123", {**flat, "in_channels": 8, "cross_attention_dim": 768})
    deep = {
        name: value.replace("2D", "3D") for name, value in {"a": "CrossAttnDownBlock2D", "b": "DownBlock2D"}.items()
    }
    monkeypatch.setattr(architectures, "VIDEO", {
        **flat, "attention_head_dim": 8, "down_block_types": tuple(deep.values()),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    })  # fmt: skip
    kept = ("sample_size", "in_channels", "out_channels", "act_fn", "addition_embed_type", "encoder_hid_dim")
    pixels = {name: value for name, value in architectures.DEEPFLOYD_XL.items() if name in kept}
    monkeypatch.setattr(architectures, "DEEPFLOYD_XL", {
        **pixels, **flat, "down_block_types": ("SimpleCrossAttnDownBlock2D",) * 2, "attention_head_dim": 16,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 2,
        "cross_attention_norm": "group_norm", "resnet_time_scale_shift": "scale_shift",
    })  # fmt: skip
    small = {**architectures.AUTOENCODER, "block_out_channels": (32,) * 4, "layers_per_block": 1}
    monkeypatch.setattr(architectures, "AUTOENCODER", small)


def losses_on_cuda(stage, most_frames=100):
    name, objective, batch, size = STEPS[stage]
    batch = (*batch[:2], min(batch[2], most_frames))
    with pretended("cuda", DTYPES.get(name, torch.float16)):
        losses = pretended_step(name, objective, batch, size, "cuda").losses()
        return {key: (loss.device.type, loss.dtype, loss.requires_grad) for key, loss in losses.items()}


@pytest.mark.parametrize("stage", STEPS)
def test_small_networks_step_on_pretended_cuda(stage, tiny):
    found = losses_on_cuda(stage, most_frames=2)
    assert set(found.values()) == {("cuda", torch.float32, True)}


@pytest.mark.parametrize("stage", STEPS)
def test_small_networks_step_forward_and_backward(stage, tiny):
    name, objective, batch, size = STEPS[stage]
    batch = (*batch[:2], min(batch[2], 2))
    found = step_memory(name, objective, batch, size, DTYPES.get(name, torch.float16))
    assert 0 < found.weights < found.peak < 8 * GIB


@pytest.mark.slow
@pytest.mark.parametrize("stage", STEPS)
def test_full_size_steps_on_pretended_cuda(stage):
    found = losses_on_cuda(stage)
    assert set(found.values()) == {("cuda", torch.float32, True)}


def test_what_saves_memory_does(tiny):
    def peak(**options):
        return step_memory("zeroscope", Sds(), (1, 1, 3), (40, 72), options=GuidanceOptions(**options)).peak

    assert peak(chunk=1) < peak(chunk=3) < peak(chunk=3, recompute=False)
    assert step_memory("sd-2.1-base", Vsd(), (1, 1, 1), (64, 64), shared_copy=True).weights < (
        step_memory("sd-2.1-base", Vsd(), (1, 1, 1), (64, 64)).weights
    )


def test_live_bytes_are_those_of_the_tensors():
    with pretended("meta", torch.float16) as live:
        kept = torch.zeros(1000, device="meta")
        view = kept[10:]
        gone = torch.zeros(3000, dtype=torch.float32, device="meta")
        assert live.live == 2000 + 12000
        del gone
        assert live.live == 2000
        assert view.dtype is torch.float16
    assert live.peak == 14000
