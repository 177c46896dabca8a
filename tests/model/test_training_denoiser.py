"""SV4D as the training loop builds it."""

import pytest
import torch
from published_files import write_published

from viewtime.errors import UserError
from viewtime.model.denoiser import add_noise, loss_weight
from viewtime.model.export_command import export_weights
from viewtime.model.video_model import training_denoiser

PRESETS = ("sv4d", "sv4d2", "sv4d2-8views", "sv3d-u", "sv3d-p", "svd-xt")


def batch(config):
    torch.manual_seed(0)
    views = 1 if config.axes == "frame" else 2
    frames = 1 if config.axes == "view" else 2
    cond = {
        "concat": torch.randn(1, 1, frames, 4, 8, 8),
        "vector": torch.randn(1, views, frames, config.vector_dim),
        "image_tokens": torch.randn(1, 1, frames, config.context_dim),
        "reference_views": torch.randn(1, views, 4, 8, 8),
    }
    return torch.randn(1, views, frames, 4, 8, 8), cond


@pytest.mark.parametrize("preset", PRESETS)
def test_debug_twin_trains_two_steps(preset):
    denoiser = training_denoiser(f"{preset}-debug")
    clean, cond = batch(denoiser.network.config)
    noise, sigma = torch.randn_like(clean), torch.tensor([1.5])
    optimizer = torch.optim.AdamW((p for p in denoiser.parameters() if p.requires_grad), lr=1e-3)
    losses = []
    for _ in range(3):
        denoised = denoiser(add_noise("edm", clean, noise, sigma), sigma, cond)
        loss = (loss_weight(denoiser.scaling, sigma) * (denoised - clean).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]


def test_published_weights_are_fine_tuned_with_the_presets_attention(tmp_path):
    path, tensors, config = write_published(tmp_path, "sv4d2")
    denoiser = training_denoiser("sv4d2-debug", str(path))
    assert denoiser.network.config.view_attention == config.network.view_attention == "joint"
    assert torch.equal(denoiser.network.conv_out.bias, tensors["model.diffusion_model.out.2.bias"])
    own = export_weights(path, "viewtime", tmp_path / "own.safetensors")
    again = training_denoiser("sv4d2-debug", str(own))
    assert torch.equal(again.network.conv_out.bias, denoiser.network.conv_out.bias)
    with pytest.raises(UserError, match="holds sv4d2-debug"):
        training_denoiser("sv4d-debug", str(own))


def test_the_seed_decides_the_random_weights():
    first, again, other = (training_denoiser("sv4d-debug", seed=seed).state_dict() for seed in (0, 0, 1))
    name = "network.conv_in.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
