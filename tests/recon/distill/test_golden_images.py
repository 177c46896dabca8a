"""Golden cases of image and video score distillation, through the teacher that a run uses."""

import pytest
import torch
from distill_golden import arrays, close, draw
from einops import rearrange
from golden_parts import GivenLatents, GivenText, StoredDraws, blank, rendered, unet2d, unet3d, vae

from viewtime.recon.distill.guidance.base import Kind
from viewtime.recon.distill.guidance.codec import Autoencoder, Pixels
from viewtime.recon.distill.guidance.diffusion import TextGuidance
from viewtime.recon.distill.losses.guided import add_noise, guided
from viewtime.recon.distill.losses.sds import sds_gradient
from viewtime.recon.distill.noise import cosine_schedule, scaled_linear_schedule
from viewtime.recon.distill.objectives import OneStep, Sds
from viewtime.recon.distill.scalars import TimestepRange
from viewtime.recon.distill.teacher import Teacher

ALL = TimestepRange(0.0, 0.999)


def image_teacher(data, objective, latents):
    guidance = TextGuidance("sd", Kind.IMAGE, unet2d("sd"), scaled_linear_schedule(), GivenLatents(latents), (8, 8))
    return Teacher(guidance, GivenText(data["text"], data["uncond"]), objective)


def test_predictions_and_both_guidance_forms():
    data = arrays("sds2d")
    teacher = image_teacher(data, Sds(), None)
    a = teacher.guidance.traits.schedule.at(data["t"])
    close(a, data["abar_t"])
    noisy = add_noise(data["latents"], data["noise"], a)
    close(noisy, data["xt"])
    grid, timesteps = noisy[:, None, None], data["t"][:, None, None]
    for split in (False, True):
        teacher.guidance.split = split
        found = teacher.guidance.predict(grid, timesteps, blank(2, 1, 1).cameras, teacher.prompt)
        close(found.conditional[:, 0, 0], data["eps_text"])
        close(found.unconditional[:, 0, 0], data["eps_uncond"])
    for form in ("A", "B"):
        for scale in ("7.5", "100"):
            close(guided(data["eps_text"], data["eps_uncond"], float(scale), form), data[f"eps_{form}_{scale}"])


@pytest.mark.parametrize("weighting", ["sds", "uniform", "fantasia3d"])
def test_image_sds(weighting):
    data = arrays("sds2d")
    latents = data["latents"][:, None, None].requires_grad_()
    teacher = image_teacher(data, Sds(100.0, "A", weighting, timesteps=ALL), latents)
    draws = StoredDraws({"t": data["t"], "noise": data["noise"][:, None, None]})
    loss = teacher.losses(blank(2, 1, 1), 0, draws)["sds"]
    close(loss, data[f"loss_{weighting}"])
    (gradient,) = torch.autograd.grad(loss, latents)
    close(gradient[:, 0, 0], data[f"dloss_dlat_{weighting}"])
    arguments = (data["eps_text"], data["eps_uncond"], data["noise"], data["abar_t"])
    gradient = sds_gradient(*arguments, scale=100.0, weighting=weighting)
    close(gradient, data[f"grad_{weighting}"])
    if weighting == "sds":
        close(sds_gradient(*arguments, scale=100.0, clamp=0.5), data["grad_sds_clip0.5"])


def test_pixel_sds_of_six_channels():
    data = arrays("sds_if")
    network = unet2d("if", 3, 6)
    guidance = TextGuidance("if", Kind.IMAGE, network, cosine_schedule(), Pixels(), (8, 8))
    close(guidance.traits.schedule.at(data["t"]), data["abar_t"])
    prompt = GivenText(data["text"], data["uncond"])
    rgb = data["rgb"].requires_grad_()
    picture = rendered(rearrange(rgb, "b h w c -> b 1 1 c h w"))
    draws = StoredDraws({"t": data["t"], "noise": data["noise"][:, None, None]})
    close(guidance.encode(picture, draws)[:, 0, 0], data["x64"])
    loss = Teacher(guidance, prompt, Sds(20.0, "A", timesteps=ALL)).losses(picture, 0, draws)["sds"]
    close(loss, data["loss"])
    loss.backward()
    close(rgb.grad, data["dloss_drgb"])


def video(values):
    return rearrange(values, "b c f h w -> b 1 f c h w")


def video_teacher(data, codec, objective, ends_at_one=False, size=(8, 8)):
    schedule = scaled_linear_schedule(ends_at_one=ends_at_one)
    guidance = TextGuidance("zs", Kind.VIDEO, unet3d(), schedule, codec, size, frames=3)
    return Teacher(guidance, GivenText(data["text"], data["uncond"]), objective)


@pytest.mark.parametrize(("motion", "name"), [(1.0, ""), (30.0, "_motion_amp30")])
def test_video_sds(motion, name):
    data = arrays("video_sds")
    latents = video(data["latents"]).requires_grad_()
    teacher = video_teacher(data, GivenLatents(latents), Sds(100.0, "A", motion=motion, timesteps=ALL))
    draws = StoredDraws({"t": data["t"], "noise": video(data["noise"])})
    loss = teacher.losses(blank(1, 1, 3), 0, draws)["sds"]
    close(loss, data[f"loss{name}"])
    loss.backward()
    close(latents.grad, video(data[f"grad{name}"]))


@pytest.mark.parametrize("ends_at_one", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("chunk", [1, 8])
def test_one_step_video_loss(steps, ends_at_one, chunk):
    data = arrays(f"onestep_n{steps}_alphaone{int(ends_at_one)}")
    codec = Autoencoder(vae(), chunk=chunk, recompute=chunk == 1)
    scale = data["guidance_scale"].item()
    teacher = video_teacher(data, codec, OneStep(scale, "A", steps, timesteps=ALL), ends_at_one, (16, 16))
    assert abs(teacher.guidance.traits.schedule.final_alpha_bar - data["final_alpha"].item()) < 1e-12
    rgb = data["rgb"].requires_grad_()
    picture = rendered(rearrange(rgb, "b f h w c -> b 1 f c h w"))
    values = {f"step{k}": draw(f"one:step{k}", 3, 4, 8, 8)[None, None] for k in range(steps)}
    values |= {"t": data["t"], "noise": video(data["noise"]), "posterior": data["vae_eps"]}
    values["posterior"] = values["posterior"][None, None]
    draws = StoredDraws(values)
    close(teacher.guidance.encode(picture, draws), video(data["latents"]))
    close(teacher.guidance.decode(video(data["target"])), video(data["decoded_target"]))
    found = teacher.losses(picture, 0, draws)
    close(found["latent"], data["loss_latent"])
    close(found["color"], data["loss_rgb"])
    total = found["latent"] + 0.1 * found["color"]
    close(total, data["total"])
    total.backward()
    close(rgb.grad, data["dtotal_drgb"])
