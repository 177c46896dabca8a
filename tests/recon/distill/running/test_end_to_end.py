"""Runs with the exact denoiser of a known scene: a random field becomes that scene, and follows its motion."""

import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.distill import DistillConfig
from viewtime.recon.distill.known_scene import KnownGaussians
from viewtime.recon.distill.measures import held_out_psnr, janus, motion_error
from viewtime.recon.distill.running.fit import DistillFit
from viewtime.recon.distill.running.judges import open_judge


def run(preset: str, *changes: str) -> DistillFit:
    config = DistillConfig.from_argv(["a red knight", "--config", preset, *changes], "test")
    fit = DistillFit(config, lambda name: open_judge(name, config, torch.device("cpu")))
    while not fit.finished():
        fit.step()
    return fit


ONLY_SHAPE = ("--stages.motion.steps", "0")


def test_the_known_scene_as_itself_has_no_error():
    known = KnownGaussians.of()
    error = known.endpoint_error(lambda points, times: torch.zeros_like(points), torch.tensor([0.0]))
    assert max(error.all, error.moving) < 1e-6
    moved = known.endpoint_error(lambda points, times: torch.zeros_like(points), torch.tensor([0.5]))
    assert moved.all == moved.all_still > 0.03
    pictures = known(regular_orbit(2, 3, distance=2.7, fov_y=30), torch.linspace(0, 1, 3), (24, 24))
    assert pictures.shape == (2, 3, 4, 24, 24)
    assert pictures[:, :, 3].mean() > 0.1


def test_a_random_field_becomes_the_known_scene_in_few_steps():
    fit = run("dream-in-4d-debug", "--stages.shape.steps", "70", "--result.size", "24", *ONLY_SHAPE)
    assert held_out_psnr(fit.scene, KnownGaussians.of(), size=32) > 19.0


@pytest.mark.slow
def test_the_known_scene_is_reached_and_its_motion_followed():
    fit = run("dream-in-4d-debug", "--stages.shape.steps", "200", "--stages.motion.steps", "300")
    known = KnownGaussians.of()
    psnr = held_out_psnr(fit.scene, known)
    error = motion_error(fit.scene, known)
    print(f"held-out PSNR {psnr:.2f} dB; endpoint error {error.all:.4f}, of moving points {error.moving:.4f}")
    assert psnr > 25.0
    assert error.moving < 0.03
    assert error.moving_still > 0.06


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hash", "gaussians"])
def test_a_prior_that_knows_the_front_alone_makes_many_faces_and_a_3d_aware_one_does_not(kind):
    field = ("--scene.kind", kind, "--scene.gaussians", "800")
    rates = ("--stages.shape.rates", "{static: 0.01, networks: 0.03}") if kind == "gaussians" else ()
    only_2d = (
        "--guidances.image.camera",
        "front",
        "--stages.shape.shots.both.guidances",
        "[image]",
        "--stages.shape.shots.both.views",
        "1",
    )
    two = run("dream-in-4d-debug", *field, *rates, *only_2d, "--stages.shape.steps", "250", *ONLY_SHAPE)
    three = run("dream-in-4d-debug", *field, *rates, "--stages.shape.steps", "150", *ONLY_SHAPE)
    known = KnownGaussians.of()
    flat, solid = janus(two.scene, known), janus(three.scene, known)
    print(f"{kind}: many-faced {flat:.3f} with a front-only prior, {solid:.3f} with four views")
    assert flat > 0.6
    assert solid < 0.2
