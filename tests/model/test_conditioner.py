"""Conditioning rules of the published models, zeroing for guidance, dropout for training."""

import math

import pytest
import torch

from viewtime.model.conditioners.conditioner import drop_conditions, unconditional
from viewtime.model.conditioners.vector import embed_vector, polar_angle
from viewtime.model.published.presets import load_model_config
from viewtime.model.sv4d.embedding import sinusoidal
from viewtime.model.video_model import VideoModel


def model(preset):
    torch.manual_seed(0)
    return VideoModel(load_model_config(f"{preset}-debug")).eval().requires_grad_(False)


def sv4d_condition(preset="sv4d", reference=True):
    built = model(preset)
    torch.manual_seed(1)
    frames = torch.rand(2, 3, 3, 32, 32) * 2 - 1
    views = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    azimuth = torch.tensor([60.0, 240.0])[None, :, None].expand(2, 2, 3)
    elevation = torch.full((2, 2, 3), 10.0)
    zero = torch.zeros(2, 3)
    cond = built.conditioner().sv4d(frames, elevation, azimuth, zero + 10, zero, views if reference else None)
    return built, frames, views, cond


def test_sv4d_condition_has_the_published_content():
    built, frames, views, cond = sv4d_condition()
    config = built.config
    assert cond["concat"].shape == (2, 1, 3, 4, 4, 4)
    assert cond["image_tokens"].shape == (2, 1, 3, 32)
    assert cond["reference_views"].shape == (2, 2, 4, 4, 4)
    assert cond["vector"].shape == (2, 2, 3, config.vector_dim)
    torch.testing.assert_close(cond["concat"][1, 0, 2], built.frame_encoder(frames[1, 2:3])[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(cond["reference_views"][0, 1], built.view_encoder(views[0, 1:2])[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(cond["image_tokens"][1, 0], built.image_encoder(frames[1]))
    expected = torch.cat(
        [
            sinusoidal(torch.tensor(1e-5), 32),
            sinusoidal(torch.tensor(math.radians(80)), 64),
            sinusoidal(torch.tensor(math.radians(240)), 64),
        ]
    )
    torch.testing.assert_close(cond["vector"][1, 1, 2], expected)
    out = built.denoiser()(torch.randn(2, 2, 3, 4, 4, 4), torch.tensor([1.0, 2.0]), cond)
    assert out.shape == (2, 2, 3, 4, 4, 4)


def test_no_reference_views_means_zero_latents():
    _, _, _, cond = sv4d_condition("sv4d2", reference=False)
    assert not cond["reference_views"].any()


def test_polar_angle_is_relative_in_sv4d2_only():
    elevation, reference = torch.tensor(10.0), torch.tensor(10.0)
    absolute = polar_angle(load_model_config("sv4d"), elevation, reference)
    relative = polar_angle(load_model_config("sv4d2"), elevation, reference)
    assert absolute.item() == pytest.approx(math.radians(80))
    assert relative.item() == pytest.approx(math.pi / 2)


def test_the_negative_branch_keeps_cameras_and_loses_the_rest():
    built, _, _, cond = sv4d_condition()
    negative = unconditional(built.config, cond)
    assert not any(negative[name].any() for name in ("concat", "image_tokens", "reference_views"))
    assert not negative["vector"][..., :32].any()
    assert torch.equal(negative["vector"][..., 32:], cond["vector"][..., 32:])
    assert cond["vector"][..., :32].any()


def test_sv3d_and_svd_keep_their_whole_vector():
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    sv3d, svd = model("sv3d-p"), model("svd-xt")
    orbit = torch.linspace(0, 240, 3).expand(2, 3)
    for built, cond, grid in (
        (sv3d, sv3d.conditioner().sv3d(image, torch.full((2, 3), 10.0), orbit), (3, 1)),
        (svd, svd.conditioner().svd(image), (1, 3)),
    ):
        negative = unconditional(built.config, cond)
        assert torch.equal(negative["vector"], cond["vector"])
        assert not negative["concat"].any()
        assert not negative["image_tokens"].any()
        out = built.denoiser()(torch.randn(2, *grid, 4, 4, 4), torch.tensor([1.0, 2.0]), cond)
        assert out.shape == (2, *grid, 4, 4, 4)
    numbers = {"fps": 6.0, "motion_bucket": 127.0, "noise_augmentation": 0.02}
    expected = embed_vector(svd.config, {name: torch.tensor(value) for name, value in numbers.items()})
    torch.testing.assert_close(svd.conditioner().svd(image)["vector"][1, 0, 0], expected)


def test_noise_augmentation_depends_on_the_seed_alone():
    conditioner = model("svd-xt").conditioner()
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    first, again, other = (conditioner.svd(image, seed=seed)["concat"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_dropout_makes_whole_samples_unconditional():
    built, _, _, cond = sv4d_condition()

    def dropped(probability):
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        return drop_conditions(built.config, cond, probability, generators)

    draws = [torch.rand((), generator=torch.Generator().manual_seed(seed)).item() for seed in (0, 1)]
    half = dropped(sum(draws) / 2)
    negative = unconditional(built.config, cond)
    for index, draw in enumerate(draws):
        source = negative if draw < sum(draws) / 2 else cond
        for name, value in half.items():
            assert torch.equal(value[index], source[name][index])
    assert all(torch.equal(value, cond[name]) for name, value in dropped(0.0).items())


def test_our_image_tower_equals_open_clips():
    transformer = pytest.importorskip("open_clip.transformer")
    config = load_model_config("sv4d-debug").image_encoder
    ours = model("sv4d").image_encoder.visual
    theirs = transformer.VisionTransformer(
        config.image_size, config.patch_size, config.width, config.layers, config.heads, 4.0, output_dim=config.out_dim
    )
    theirs.load_state_dict(ours.state_dict(), strict=True)
    pixels = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(ours(pixels), theirs.eval()(pixels), atol=1e-5, rtol=0)
