"""Golden cases of variational score distillation: a LoRA copy by peft, the camera as class embedding."""

import pytest
import torch
from distill_golden import arrays, close, fill
from golden_parts import GivenLatents, GivenText, StoredDraws, blank, lora_weights, unet2d

import viewtime.recon.distill.guidance.lora_copy as lora_copy
from viewtime.recon.distill.guidance.base import Kind
from viewtime.recon.distill.guidance.diffusion import TextGuidance
from viewtime.recon.distill.guidance.lora_copy import ADAPTER, LoraCopy
from viewtime.recon.distill.noise import scaled_linear_schedule
from viewtime.recon.distill.objectives import Vsd
from viewtime.recon.distill.scalars import TimestepRange
from viewtime.recon.distill.teacher import Teacher

ALL = TimestepRange(0.0, 0.999)
PREDICTS = {"epsilon": "noise", "v_prediction": "velocity"}


def golden_copy(network, predicts, shared=False):
    copy = LoraCopy(network, scaled_linear_schedule(), predicts, shared=shared)
    with torch.no_grad():
        for name, module in network.named_modules():
            if ADAPTER in getattr(module, "lora_A", {}):
                down, up = module.lora_A[ADAPTER], module.lora_B[ADAPTER]
                values = lora_weights(name, down.weight.shape, up.weight.shape)
                for layer, value in zip((down, up), values):
                    layer.weight.data = value.clone()
    fill(copy.camera, "camemb").requires_grad_(True)
    return copy


def our_name(name):
    """The golden name of a LoRA tensor -> ours."""
    return name.replace(".lora.down.", f".lora_A.{ADAPTER}.").replace(".lora.up.", f".lora_B.{ADAPTER}.")


@pytest.mark.parametrize("kind", PREDICTS)
def test_both_losses_and_every_lora_gradient(kind, monkeypatch):
    data = arrays(f"vsd_{kind}")
    monkeypatch.setattr(lora_copy, "camera_matrix", lambda *angles: data["c2w"])
    latents = data["latents"][:, None, None].requires_grad_()
    copy = golden_copy(unet2d("sdlora"), PREDICTS[kind])
    codec = GivenLatents(latents)
    guidance = TextGuidance("sd", Kind.IMAGE, unet2d("sd"), scaled_linear_schedule(), codec, (8, 8))
    prompts = GivenText(data["text_vd"], data["uncond_vd"]), GivenText(data["text"], data["uncond"])
    teacher = Teacher(guidance, prompts[0], Vsd(timesteps=ALL), copy, prompts[1])
    values = {
        "t": data["t"], "noise": data["noise"][:, None, None],
        "lora_t": data["lora_t"], "lora_noise": data["lora_noise"][:, None, None],
    }  # fmt: skip
    found = teacher.losses(blank(2, 1, 1), 0, StoredDraws(values))
    close(found["vsd"], data["loss_vsd"])
    close(found["lora"], data["loss_lora"])
    (gradient,) = torch.autograd.grad(found["vsd"], latents)
    close(gradient[:, 0, 0], data["grad"] / 2)
    found["lora"].backward()
    assert latents.grad is None
    named = dict(copy.network.named_parameters())
    norms = torch.stack([named[our_name(name)].grad.norm() for name in data["lora_param_names"]])
    close(norms, data["grad_lora_norms"])
    for half in ("up", "down"):
        candidates = [
            named[our_name(name)].grad for name in data["lora_param_names"]
            if f".{half}." in name and named[our_name(name)].shape == data[f"grad_lora_{half}"].shape
        ]  # fmt: skip
        assert any(torch.allclose(grad, data[f"grad_lora_{half}"], rtol=1e-9, atol=1e-12) for grad in candidates)
    assert guidance.network.conv_in.weight.grad is None
    dropped = teacher.losses(blank(2, 1, 1), 0, StoredDraws(values, dropped=True))
    close(dropped["lora"], data["loss_lora_camera_dropped"])


@pytest.mark.parametrize("kind", PREDICTS)
def test_predictions_of_base_and_copy(kind, monkeypatch):
    data = arrays(f"vsd_{kind}")
    monkeypatch.setattr(lora_copy, "camera_matrix", lambda *angles: data["c2w"])
    copy = golden_copy(unet2d("sdlora"), PREDICTS[kind])
    grid, timesteps = data["xt"][:, None, None], data["t"][:, None, None]
    prompt = GivenText(data["text"], data["uncond"])
    found = copy.predict(grid, timesteps, blank(2, 1, 1).cameras, prompt)
    close(found.conditional[:, 0, 0], data["eps_lora"])
    with torch.no_grad():
        raw = copy.train_prediction(grid, timesteps, blank(2, 1, 1).cameras, prompt, drop_camera=False)
    close(raw[:, 0, 0], data["lora_raw"][:2])
