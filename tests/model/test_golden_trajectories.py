"""Five guided Euler steps and SV4D's alternating dense stage, through the public denoiser, sampler and guidance."""

import pytest
import torch
from einops import rearrange
from golden_files import NETWORKS, arrays, conditioning, network, to_grid

from viewtime.model.denoiser import NetworkDenoiser, VScaling
from viewtime.sample.solver.guidance import Guidance, combine
from viewtime.sample.solver.samplers import euler
from viewtime.sample.solver.schedules import make_schedule

EARLY_TOLERANCE = 1e-3
FINAL_TOLERANCE = 5e-5
DENSE_TOLERANCE = 1e-3
GUIDANCE = {
    "sv4d": Guidance("spatio-temporal", 1.0, 2.0),
    "sv4d2": Guidance("linear", 1.0, 2.0),
    "sv4d2_8views": Guidance("spatio-temporal", 1.5, 2.5),
    "sv3d_p": Guidance("triangle", 1.0, 2.5),
    "svd": Guidance("linear", 1.5, 3.0),
}


def guided(denoiser, guidance, positive, negative):
    """One evaluation of both branches, as the samplers want it."""
    both = {key: torch.cat([negative[key], positive[key]]) for key in positive}

    def denoise(x, sigma, step):
        level = torch.full((2,), sigma)
        unconditional, conditional = denoiser(torch.cat([x, x]), level, both).chunk(2)
        return combine(conditional, unconditional, guidance.scale(x.shape[1], x.shape[2]))

    return denoise


@pytest.mark.parametrize("name", NETWORKS)
def test_trajectory_golden(name):
    data = arrays(f"traj_{name}")
    views = int(data.get("V", 1))
    positive, negative = (conditioning(name, data, views, 1, tag) for tag in ("c_", "uc_"))
    denoise = guided(NetworkDenoiser(network(name), VScaling(), 4), GUIDANCE[name], positive, negative)
    schedule = make_schedule("edm", len(data["sigmas"]) - 1, sigma_max=float(data["sigmas"][0]))
    torch.testing.assert_close(schedule.sigmas, data["sigmas"], rtol=1e-5, atol=1e-6)
    states, predictions = [], []
    start = to_grid(name, data["noise"], views, 1) * schedule.initial_scale
    euler(denoise, start, schedule, lambda step, x, denoised: (states.append(x), predictions.append(denoised)))
    for step, published in enumerate(data["xs"][1:]):
        assert (states[step] - to_grid(name, published, views, 1)).abs().max() < EARLY_TOLERANCE
    for step, published in enumerate(data["denoised"]):
        assert (predictions[step] - to_grid(name, published, views, 1)).abs().max() < EARLY_TOLERANCE
    assert (states[-1] - to_grid(name, data["out"], views, 1)).abs().max() < FINAL_TOLERANCE


def test_dense_stage_golden():
    """Even steps go backwards in time, odd steps forwards; each sees its own conditioning and frame order."""
    data = arrays("dense_sv4d")
    frames, views = data["forward_frame_indices"].tolist(), data["view_indices"].tolist()
    denoiser = NetworkDenoiser(network("sv4d"), VScaling(), 4)
    denoise = {
        letter: guided(
            denoiser,
            GUIDANCE["sv4d"],
            *(conditioning("sv4d", data, len(views), 1, f"{letter}_{branch}_") for branch in ("c", "uc")),
        )
        for letter in ("F", "B")
    }
    schedule = make_schedule("edm", len(data["sigmas"]) - 1, sigma_max=float(data["sigmas"][0]))
    whole = rearrange(data["latent_matrix_init"], "f v c h w -> 1 v f c h w").clone()
    start = whole[:, views][:, :, frames] * schedule.initial_scale
    whole_before = whole.clone()

    def alternating(x, sigma, step):
        if step % 2:
            return denoise["F"](x, sigma, step)
        return denoise["B"](x.flip(2), sigma, step).flip(2)

    states = []
    final = euler(alternating, start, schedule, lambda step, x, denoised: states.append(x))
    for step, matrix in enumerate(data["latent_matrix_steps"]):
        published = rearrange(matrix, "f v c h w -> 1 v f c h w")
        assert (states[step] - published[:, views][:, :, frames]).abs().max() < DENSE_TOLERANCE
        untouched = published.clone()
        untouched[:, views[0] : views[-1] + 1, frames[0] : frames[-1] + 1] = 0
        expected = whole_before.clone()
        expected[:, views[0] : views[-1] + 1, frames[0] : frames[-1] + 1] = 0
        assert torch.equal(untouched, expected)
    last = rearrange(data["latent_matrix_steps"][-1], "f v c h w -> 1 v f c h w")
    assert (final - last[:, views][:, :, frames]).abs().max() < FINAL_TOLERANCE
