"""From anisotropic Gaussians to a mesh: density, carried vertices, and the views added between the given ones."""

import dataclasses

import numpy as np
import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.errors import UserError
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.render.compiled import load_library
from viewtime.recon.surface.mesh import (
    THINNEST,
    Density,
    add_densities,
    add_densities_reference,
    carry,
    density_volume,
    extract_mesh,
    most_open,
)
from viewtime.recon.surface.mesh_choice import LEVELS, Candidate, best_level, with_views_between
from viewtime.recon.surface.silhouette import SOURCE

QUARTER_TURN = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def stick_and_ball() -> GaussianAsset:
    """A stick along x that turns by 90 degrees about z, and a small ball near its end that stays."""
    means = torch.tensor([[[0.0, 0.0, 0.0], [0.5, 0.1, 0.0]]]).repeat(2, 1, 1)
    covariance = torch.diag_embed(torch.tensor([[0.3, 0.03, 0.05], [0.02, 0.02, 0.02]]) ** 2)
    linear = torch.stack([torch.eye(3).repeat(2, 1, 1), torch.stack([QUARTER_TURN, torch.eye(3)])])
    return GaussianAsset(means, covariance, torch.tensor([0.9, 0.8]), torch.rand(2, 3), linear, 10.0)


def test_density_is_that_of_turned_anisotropic_gaussians():
    asset = stick_and_ball()
    volume, low, spacing, _ = density_volume(asset, 1, 60)
    index = np.argwhere(volume > 0.3)
    points = torch.from_numpy(index * spacing + low).float()
    means, covariance = asset.at(1.0)
    blurred = covariance + (THINNEST * spacing) ** 2 * torch.eye(3)
    offset = points[:, None] - means
    square = torch.einsum("pni,nij,pnj->pn", offset, torch.linalg.inv(blurred), offset)
    expected = (asset.opacity * torch.exp(-0.5 * square)).sum(dim=1)
    np.testing.assert_allclose(volume[tuple(index.T)], expected, atol=0.02)
    assert len(index) > 100
    torch.testing.assert_close(covariance[0], torch.diag(torch.tensor([0.03, 0.3, 0.05]) ** 2))  # turned


@pytest.mark.skipif(load_library(SOURCE) is None, reason="no C++ compiler on this machine")
def test_compiled_density_equals_the_plain_one():
    """Thin, slanted Gaussians too, whose density at a row's ends is far below the smallest number."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(20, 3, 3)))[0] * np.array([0.4, 0.02, 0.01])
    gaussians = (random.uniform(0, 1, (20, 3)), np.linalg.inv(axes @ axes.transpose(0, 2, 1)), random.uniform(0, 1, 20))
    first = random.integers(0, 12, (20, 3))
    last = np.minimum(first + random.integers(0, 40, (20, 3)), [30, 36, 40])
    volumes = [np.zeros((30, 36, 40), np.float32) for _ in range(2)]
    low = np.array([-0.1, 0.0, 0.05], np.float32)
    for add, volume in zip((add_densities, add_densities_reference), volumes):
        add(volume, gaussians, (first, last), low, 0.03)
    assert volumes[1].max() > 0.5
    np.testing.assert_allclose(*volumes, atol=1e-6)


def test_a_vertex_moves_with_the_gaussian_that_covers_it_not_with_the_nearest_centre():
    asset = stick_and_ball()
    positions, colour = carry(asset, np.array([[0.45, 0.0, 0.0]]))
    np.testing.assert_allclose(positions[1, 0], [0.0, 0.45, 0.0], atol=1e-3)
    np.testing.assert_allclose(colour[0], asset.colour[0], atol=1e-3)


def test_what_a_frame_squashes_flat_carries_nothing():
    """The ball, flat in frame 0, comes near the stick's vertices and leaves them to the stick; flat later it does not
    matter; with the stick flat too nothing is left to move them."""
    asset = stick_and_ball()
    vertices = np.array([[0.45, 0.03, 0.0], [-0.2, 0.0, 0.05]])
    alone = dataclasses.replace(
        asset, means=asset.means[:, :1], covariance=asset.covariance[:1], opacity=asset.opacity[:1],
        colour=asset.colour[:1], linear=asset.linear[:, :1],
    )  # fmt: skip
    flat = asset.linear.clone()
    flat[0, 1, 2] = 0
    positions, colour = carry(dataclasses.replace(asset, linear=flat), vertices)
    expected = carry(alone, vertices)
    np.testing.assert_array_equal(positions, expected[0])
    np.testing.assert_array_equal(colour, expected[1])
    assert np.isfinite(carry(dataclasses.replace(asset, linear=flat.flip(0)), vertices)[0]).all()
    with pytest.raises(UserError, match="frame 0 squashes all 2 Gaussians flat"):
        carry(dataclasses.replace(asset, linear=flat * torch.tensor([0.0, 1.0])[:, None, None, None]), vertices)


def test_gaussians_far_larger_than_the_scene_are_refused_before_hours_of_summing():
    asset = stick_and_ball()
    many = dataclasses.replace(
        asset, means=asset.means.repeat(1, 10000, 1), covariance=1e8 * torch.eye(3).repeat(20000, 1, 1),
        opacity=asset.opacity.repeat(10000), colour=asset.colour.repeat(10000, 1),
        linear=asset.linear.repeat(1, 10000, 1, 1),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"20000 Gaussians reach over .* too large to show a surface"):
        density_volume(many, 0, 128)


def test_views_between_are_what_the_asset_shows_there():
    asset, cameras = stick_and_ball(), regular_orbit(4, 2, elevation=15.0)
    targets = make_targets(asset.render_grid(cameras, 32, 32))
    more = with_views_between(asset, targets, cameras)
    assert more.shape == (8, 2, 32, 32)
    torch.testing.assert_close(more.images[:4], targets.images)
    between = make_targets(asset.render_grid(regular_orbit(4, 2, elevation=15.0, azimuth_start=45.0), 32, 32))
    torch.testing.assert_close(more.images[4:], between.images)
    torch.testing.assert_close(more.views.world_to_camera[8:], between.views.world_to_camera)


def test_what_touches_in_one_frame_is_not_one_surface_in_all():
    """Two balls that touch in the first frame and part then: two parts, each a ball in every frame."""
    means = torch.tensor([[[-0.12, 0, 0], [0.12, 0, 0]], [[-0.5, 0, 0], [0.5, 0, 0]], [[-0.12, 0, 0], [0.12, 0, 0]]])
    covariance = (0.1**2 * torch.eye(3)).expand(2, 3, 3).contiguous()
    linear = torch.eye(3).expand(3, 2, 3, 3).contiguous()
    asset = GaussianAsset(means, covariance, torch.tensor([0.9, 0.9]), torch.rand(2, 3), linear, 10.0)
    assert most_open(asset) == 1
    mesh = extract_mesh(asset, resolution=40, base=most_open(asset))
    assert (np.abs(mesh.positions[1, :, 0]) > 0.36).all()
    np.testing.assert_allclose(np.abs(mesh.positions[0, :, 0]).mean(), 0.12, atol=0.01)
    webbed = extract_mesh(asset, resolution=40)
    assert (np.abs(webbed.positions[1, :, 0]) < 0.3).any()


@pytest.mark.parametrize("levels", [LEVELS, LEVELS[:1], LEVELS[2:]])
@pytest.mark.parametrize("peak", [0.1, 0.3, 0.45, 0.7, 2.0])
def test_the_level_is_sought_from_the_usual_one(levels, peak):
    tried = []

    def judge(level):
        tried.append(level)
        return Candidate(Density(np.zeros((1, 1, 1)), np.zeros(3), 1.0, 0), level, -abs(level - peak))

    assert best_level(list(levels), judge).level == min(levels, key=lambda level: abs(level - peak))
    assert len(tried) == len(set(tried)) <= len(levels)
    if levels == LEVELS and peak < 0.5:
        assert len(tried) == 3
