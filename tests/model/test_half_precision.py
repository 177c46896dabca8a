"""Every model that ships and every -debug twin, in every dtype that can be asked for, on the CPU.

float32 is the truth. Half precision must run through every part, stay finite and near it; what each dtype costs at
best is measured in benchmarks/precision.py.
"""

import copy

import pytest
import torch

from viewtime.configs.load import load_preset, presets
from viewtime.model.conditioners.conditioner import unconditional
from viewtime.model.published.presets import load_model_config, model_presets
from viewtime.model.registry import build_denoiser
from viewtime.model.video_model import VideoModel
from viewtime.model.weight_names import SHIPPED
from viewtime.sample.models.loading import load_model

HALVES = (torch.bfloat16, torch.float16)
LEAST_PSNR = {torch.bfloat16: 30.0, torch.float16: 45.0}  # dB, with float32 as the truth
PUBLISHED_TWINS = [name for name in model_presets() if name.endswith("-debug")]
TRAINED_TWINS = [name for name in presets("train") if name.endswith("-debug")]
V, T = 2, 1
# Views, frames and pixels of the published twins: convolutions in float16 are slow on a CPU.
CELLS, SIDE = 2, 32


def psnr(value: torch.Tensor, truth: torch.Tensor) -> float:
    """dB, by the span of the truth."""
    return float(10 * torch.log10((truth.max() - truth.min()).square() / (value - truth).square().mean()))


def grid_conditions(channels: int, size: tuple[int, int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A noisy grid whose first row is known, and cameras."""
    noise, known_frames = torch.randn(2, 1, V, T, channels, *size, generator=torch.Generator().manual_seed(0))
    known = torch.zeros(1, V, T, dtype=torch.bool)
    known[:, 0] = True
    azimuth = torch.linspace(0, 240, V)[None, :, None].expand(1, V, T)
    cond = {"known": known, "known_frames": known_frames.tanh(), "azimuth": azimuth}
    return noise, cond | {"elevation": torch.full((1, V, T), 12.0)}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models(name):
    results = {}
    for dtype in (torch.float32, *HALVES):
        model = load_model(name, torch.device("cpu"), dtype)
        x, cond = grid_conditions(4, model.traits.cell)
        with torch.no_grad():
            results[dtype] = model.denoiser(x, torch.tensor([0.4]), cond)
    for dtype in HALVES:
        assert psnr(results[dtype], results[torch.float32]) > LEAST_PSNR[dtype], dtype


@pytest.mark.parametrize("name", TRAINED_TWINS)
def test_trained_twins(name):
    section = load_preset(name, "train")["model"]
    torch.manual_seed(0)
    denoiser = build_denoiser(section["name"], section["config"]).requires_grad_(False)
    for parameter in denoiser.parameters():  # layers that start at zero would hide what they do
        parameter.add_(torch.randn_like(parameter) * 0.05)
    base = section["config"].get("base")
    size = tuple(base["frame_size"]) if base else (section["config"]["size"],) * 2
    x, cond = grid_conditions(denoiser.in_channels, size)
    truth = denoiser(x, torch.tensor([0.5]), cond)
    for dtype in HALVES:
        assert psnr(copy.deepcopy(denoiser).to(dtype)(x, torch.tensor([0.5]), cond), truth) > LEAST_PSNR[dtype], dtype


@pytest.mark.parametrize("name", PUBLISHED_TWINS)
def test_published_twins(name):
    """Conditions, guided prediction and decoding; the parts are cast together, as `--dtype` does."""
    config = load_model_config(name)
    torch.manual_seed(0)
    original = VideoModel(config).requires_grad_(False)
    views, frames = {"svd": (1, CELLS), "sv3d": (CELLS, 1), "sv4d": (CELLS, CELLS)}[config.family]
    pictures = torch.rand(1, frames, 3, SIDE, SIDE) * 2 - 1
    angles = torch.linspace(0, 300, views)[None, :, None].expand(1, views, frames)
    noise = torch.randn(1, views, frames, 4, SIDE // 8, SIDE // 8)
    results = {}
    for dtype in (torch.float32, *HALVES):
        model = copy.deepcopy(original).to(dtype)
        conditioner = model.conditioner()
        if config.family == "svd":
            cond = conditioner.svd(pictures[:, 0])
        elif config.family == "sv3d":
            cond = conditioner.sv3d(pictures[:, 0], angles[..., 0] * 0 + 10, angles[..., 0])
        else:
            row = torch.zeros(1, frames)
            cond = conditioner.sv4d(
                pictures, angles * 0, angles, row, row, pictures[:, :1].expand(-1, views, -1, -1, -1)
            )
        denoiser = model.denoiser()
        predictions = [denoiser(noise, torch.tensor([1.0]), c) for c in (cond, unconditional(config, cond))]
        codec = model.codec()
        frames_out = codec.decode((predictions[0] / codec.scale).to(dtype))
        results[dtype] = torch.cat([part.float().flatten() for part in (*predictions, frames_out)])
    for dtype in HALVES:
        assert psnr(results[dtype], results[torch.float32]) > LEAST_PSNR[dtype], dtype
