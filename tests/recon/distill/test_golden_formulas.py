"""Golden cases without a network: schedules, cameras, densities, regularisers, reconstruction form."""

import pytest
import torch
from distill_golden import arrays, close

from viewtime.cameras import opencv_from_opengl, ray_directions
from viewtime.recon.distill.camera_sampling import relative_distance
from viewtime.recon.distill.density import blob_bias, density, squashed_displacement, warped
from viewtime.recon.distill.frame_times import interval_times, offset_times
from viewtime.recon.distill.guidance.prompts import ViewWords
from viewtime.recon.distill.guidance.published_cameras import (
    camera_matrix,
    normalised_extrinsics,
    relative_pose,
)
from viewtime.recon.distill.losses.guided import add_noise, clean_from_noise, guided
from viewtime.recon.distill.losses.reconstruction import reconstruction_loss, reconstruction_target, rescaled
from viewtime.recon.distill.losses.regularisers import displacement_variation, opaqueness, sparsity
from viewtime.recon.distill.noise import cosine_schedule, scaled_linear_schedule
from viewtime.recon.distill.scalars import Ramp, TimestepRange, open_levels, value_at

RAMPS = {
    "mv_min": Ramp(0, 0.98, 0.02, 8000),
    "mv_max": Ramp(0, 0.98, 0.5, 8000),
    "d4d_min": Ramp(0, 0.99, 0.2, 10000),
    "d4d_max": Ramp(0, 0.99, 0.5, 10000),
    "opaque": Ramp(10000, 0.0, 1000.0, 10001),
    "ms_tv": Ramp(7000, 1000.0, 10.0, 7001),
    "z123_min": Ramp(0, 0.4, 0.2, 200),
    "z123_max": Ramp(0, 0.85, 0.5, 200),
    "vc_max": Ramp(0, 0.98, 0.5, 5000),
    "blob_std_4dfy": Ramp(0, 0.5, 5.0, 50000),
}


def test_scheduled_scalars_and_the_cut_to_timesteps():
    data = arrays("schedules")
    for name, ramp in RAMPS.items():
        found = torch.tensor([value_at(ramp, step) for step in data["steps"].tolist()], dtype=torch.float64)
        close(found, data[name])
    for name in ("mv", "d4d", "z123"):
        span = TimestepRange(RAMPS[f"{name}_min"], RAMPS[f"{name}_max"])
        found = torch.tensor([span.at(step) for step in data["steps"].tolist()])
        assert torch.equal(found, torch.stack([data[f"{name}_min_int"], data[f"{name}_max_int"]], dim=1))
    found = torch.tensor([TimestepRange(0.02, RAMPS["vc_max"]).at(step) for step in data["steps"].tolist()])
    assert torch.equal(found[:, 1], data["vc_max_int"])
    for levels in (12, 8):
        found = [open_levels(step, levels) for step in data["steps"].tolist()]
        assert found == data[f"levels_{levels}_start4_every500"].tolist()


def test_alpha_bar_tables_and_frame_times():
    data = arrays("schedules")
    close(scaled_linear_schedule().at(data["abar_t"]), data["abar_sd"])
    close(cosine_schedule().at(data["abar_t"]), data["abar_if"])
    u = data["u"].tolist()
    close(offset_times(u[0]), data["times_4dfy"])
    close(interval_times(u[1], u[2]), data["times_d4d"])


def test_camera_matrices_rays_and_conditions():
    data = arrays("camera")
    elevation, azimuth, distance = data["elevation_deg"], data["azimuth_deg"], data["distance"]
    matrix = camera_matrix(elevation, azimuth, distance)
    close(matrix, data["c2w"])
    rays = ray_directions(opencv_from_opengl(matrix)[:, None], data["fovy_deg"].item(), 4, 6)
    close(rays[:, 0], data["rays_d"])
    close(normalised_extrinsics(matrix), data["mvdream_camera"])
    pose = relative_pose(elevation, azimuth, distance, (0.0, 0.0, 3.8))
    close(pose, data["zero123_T"])
    close(relative_pose(elevation, azimuth, distance, (5.0, 0.0, 3.8), stable=True), data["stable_zero123_T"])
    fov_y = torch.tensor([15.0, 60.0], dtype=torch.float64)
    share = torch.tensor([0.8, 1.0], dtype=torch.float64)
    close(relative_distance(share[:, None], fov_y), data["relative_distance_fov15_60"])


def test_direction_words():
    data = arrays("camera")
    words = ViewWords(front=30.0, back=30.0, overhead=60.0)
    assert torch.equal(words.index(data["view_elev"], data["view_azim"]), data["view_index"])


@pytest.mark.parametrize("spread", [0.5, 1.4, 5])
def test_density_of_a_blob(spread):
    data = arrays("density")
    bias = blob_bias(data["points"], spread)
    close(bias, data[f"bias_{spread}"])
    close(density(data["raw"], bias), data[f"density_{spread}"], atol=1e-30)


def test_warp_and_opacity_losses():
    data = arrays("density")
    displacement = squashed_displacement(data["disp_raw"])
    close(displacement, data["disp"])
    for scale in ("1", "1.5", "2"):
        close(warped(data["x"], displacement, float(scale)), data[f"warp_{scale}"])
    close(sparsity(data["opacity"]), data["sparsity"])
    close(opaqueness(data["opacity"]), data["opaque"])


def test_displacement_variation():
    data = arrays("tv")
    displacement = data["disp"].requires_grad_()
    found = displacement_variation(displacement)
    for part, name in zip((found.time, found.height, found.width), "thw"):
        close(part, data[f"tv_{name}"])
    close(found.total, data["tv"])
    close(1000 * found.total, data["weighted_1000"])
    close(found.total, data["tv_4dfy_form"])
    found.total.backward()
    close(displacement.grad, data["dtv"])
    close(displacement_variation(data["disp_batch2"]).total, data["tv_batch2"])


@pytest.mark.parametrize("rescale", [0, 0.5, 1])
def test_reconstruction_form(rescale):
    data = arrays("recon")
    latents = data["latents"].requires_grad_()
    a = data["abar_t"]
    noisy = add_noise(latents.detach(), data["noise"], a)
    close(noisy, data["xt"])
    predictions = (data["eps_text"], data["eps_uncond"])
    target = reconstruction_target(noisy, a, *predictions, scale=50.0, form="B", rescale=float(rescale), views=4)
    close(target, data[f"x0_{rescale}"])
    if rescale:
        clean = [clean_from_noise(noisy, e, a) for e in (guided(*predictions, 50.0, "B"), data["eps_text"])]
        close(rescaled(*clean, 4, rescale)[1], data[f"factor_{rescale}"])
    loss = reconstruction_loss(latents, target)
    close(loss, data[f"loss_{rescale}"])
    loss.backward()
    close(latents.grad, data[f"dloss_dlat_{rescale}"])
