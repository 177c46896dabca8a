"""The public multi-view network at a small size, as diffusers' network: golden outputs and its closed forms."""

import ast

import pytest
import torch
from distill_golden import arrays, close, draw, weight
from golden_parts import GivenLatents, GivenText, StoredDraws, blank

import viewtime.recon.distill.guidance.multi_view as multi_view
from viewtime.recon.distill.guidance.base import Kind
from viewtime.recon.distill.guidance.multi_view import MultiViewGuidance
from viewtime.recon.distill.losses.guided import clean_from_noise, guided
from viewtime.recon.distill.losses.reconstruction import reconstruction_target, rescaled
from viewtime.recon.distill.noise import scaled_linear_schedule
from viewtime.recon.distill.objectives import Reconstruction
from viewtime.recon.distill.published.files import PublishedFile
from viewtime.recon.distill.published.ldm_files import UNET_PREFIX, build_unet, ldm_unet
from viewtime.recon.distill.scalars import TimestepRange
from viewtime.recon.distill.teacher import Teacher

TINY = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "cross_attention_dim": 24,
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
}
FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}


def golden_file(data):
    """The tiny network as a published file with LDM names."""
    shapes = dict(zip(data["param_names"], map(ast.literal_eval, data["param_shapes"])))
    tensors = {UNET_PREFIX + name: weight(f"mv:{name}", shape) for name, shape in shapes.items()}
    return PublishedFile(
        "tiny.pt",
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        lambda names: ((name, tensors[name]) for name in names),
    )


def network(data, dtype=torch.float64, views=4):
    return ldm_unet(golden_file(data), build_unet(TINY, views), "cpu", dtype)


def teacher(data, latents, monkeypatch, dtype=torch.float64):
    monkeypatch.setattr(multi_view, "normalised_extrinsics", lambda matrix: data["camera16"])
    codec, schedule = GivenLatents(latents), scaled_linear_schedule(form="ldm")
    guidance = MultiViewGuidance("mvdream", Kind.MULTI_VIEW, network(data, dtype), schedule, codec, (8, 8), views=4)
    prompt = GivenText(data["text"], data["uncond"])
    return Teacher(guidance, prompt, Reconstruction(timesteps=TimestepRange(0.0, 0.999)))


def grid(values):
    return values.unflatten(0, (2, 4))[:, :, None]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_predictions(dtype, monkeypatch):
    data = arrays("mvdream_tiny")
    tolerance = {} if dtype is torch.float64 else FLOAT32
    guidance = teacher(data, None, monkeypatch, dtype).guidance
    noisy, timesteps = grid(data["xt"]).to(dtype), data["t"].expand(2, 4, 1)
    prompt = GivenText(data["text"], data["uncond"])
    found = guidance.predict(noisy, timesteps, blank(2, 4, 1).cameras, prompt)
    close(torch.cat([value.flatten(0, 2) for value in found]), data["unet_out"], **tolerance)
    monkeypatch.setattr(multi_view, "normalised_extrinsics", lambda matrix: 0 * data["camera16"])
    for layer in (guidance.network.class_embedding.linear_1, guidance.network.class_embedding.linear_2):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    found = guidance.predict(noisy, timesteps, blank(2, 4, 1).cameras, prompt)
    close(torch.cat([value.flatten(0, 2) for value in found]), data["unet_out_no_camera"], **tolerance)


def test_one_view_is_plain_stable_diffusion():
    data = arrays("mvdream_tiny")
    texts = torch.cat([data["text"].expand(8, -1, -1), data["uncond"].expand(8, -1, -1)])
    cameras, x, t = data["camera16"].repeat(2, 1), data["xt"].repeat(2, 1, 1, 1), data["t"].expand(16)
    plain = build_unet(TINY, 1)
    plain = ldm_unet(golden_file(data), plain, "cpu", torch.float64)
    found = plain(x, t, encoder_hidden_states=texts, class_labels=cameras).sample
    close(found, data["unet_out_num_frames1"])


def test_reconstruction_loss_of_a_step(monkeypatch):
    data = arrays("mvdream_tiny")
    latents = grid(data["latents"]).requires_grad_()
    draws = StoredDraws({"t": data["t"], "noise": grid(data["noise"])})
    loss = teacher(data, latents, monkeypatch).losses(blank(2, 4, 1), 0, draws)["sds"]
    close(loss, data["loss"], rtol=1e-5)
    loss.backward()
    close(latents.grad.flatten(0, 2), data["dloss_dlat"], rtol=1e-5, atol=1e-5)
    a = scaled_linear_schedule(form="ldm").at(data["t"])
    text, uncond = data["unet_out"].chunk(2)
    guided_noise = guided(text, uncond, 50.0, "B")
    close(guided_noise, data["eps_cfg50"])
    x0 = clean_from_noise(data["xt"], guided_noise, a)
    tables = {"rtol": 1e-6, "atol": 1e-5}  # the public code rounds √(1/a) and √(1/a − 1) to float32
    close(x0, data["x0"], **tables)
    close(rescaled(x0, clean_from_noise(data["xt"], text, a), 4, 0.5)[1], data["factor"], **tables)
    close(reconstruction_target(data["xt"], a, text, uncond), data["x0_rescaled"], **tables)


def test_sinusoids_of_the_timestep():
    data = arrays("mvdream_tiny")
    found = build_unet(TINY).time_proj(torch.tensor([450, 3]))
    close(found, data["time_embedding_450_3"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("views", "name"), [(4, "block_out_f4"), (1, "block_out_f1")])
def test_one_transformer_block(views, name):
    data = arrays("mvdream_tiny")
    block = network(data, views=views).mid_block.attentions[0]
    found = block(draw("mv:block_in", 8, 64, 4, 4), encoder_hidden_states=data["text"].expand(8, -1, -1)).sample
    close(found, data[name])
