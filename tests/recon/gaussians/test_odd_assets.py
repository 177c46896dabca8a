"""Assets that are flat, points, or edited by hand: shown and exported, or refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation
from torch import Tensor

from viewtime.errors import UserError
from viewtime.recon.export.ply import scale_and_quaternion
from viewtime.recon.export.web_page import splat_data
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.surface.mesh import carry
from viewtime.recon.view_command import make_page

COUNT = 200


def asset_of(sizes: list[float], isotropic: bool = False) -> GaussianAsset:
    """Gaussians with these standard deviations along axes that stand anyhow; covariances rounded to float32."""
    axes = torch.from_numpy(Rotation.random(COUNT, random_state=0).as_matrix())
    covariance = (axes @ torch.diag(torch.tensor(sizes, dtype=torch.float64) ** 2) @ axes.transpose(1, 2)).float()
    generator = torch.Generator().manual_seed(0)
    means, colour = torch.randn(2, COUNT, 3, generator=generator), torch.rand(COUNT, 3, generator=generator)
    return GaussianAsset(
        means, covariance[:, 0, :1] if isotropic else covariance, torch.full((COUNT,), 0.7), colour,
        torch.eye(3).expand(2, COUNT, 3, 3), 12.0,
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [[0.3, 0.3, 1e-5], [0.3, 0.3, 0.0], [0.3, 1e-5, 0.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("isotropic", [False, True])
def test_flat_gaussians_and_points_are_shown_and_carry_a_surface(tmp_path: Path, sizes, isotropic: bool) -> None:
    asset = asset_of(sizes, isotropic)
    asset.save(tmp_path)
    asset = GaussianAsset.load(tmp_path)
    assert splat_data(asset)["count"] == COUNT
    vertices = asset.means[0, :10].numpy()
    positions, colours = carry(asset, vertices)
    np.testing.assert_allclose(positions[0], vertices, atol=1e-5)
    assert np.isfinite(colours).all()
    size, _ = scale_and_quaternion(asset.at(0.0)[1])
    assert torch.isfinite(size.log()).all()


def damaged(folder: Path, **changes: Tensor) -> None:
    asset_of([0.1, 0.1, 0.05]).save(folder)
    weights = folder / "gaussians.safetensors"
    save_file({**load_file(weights), **changes}, weights)


@pytest.mark.parametrize("value", [-0.2, 1.5])
def test_opacities_that_are_none_are_damage(tmp_path: Path, value: float) -> None:
    damaged(tmp_path, opacity=torch.full((COUNT,), value))
    with pytest.raises(UserError, match=r"opacities from .* not within 0 to 1"):
        GaussianAsset.load(tmp_path)


def test_covariances_that_are_none_are_damage(tmp_path: Path) -> None:
    mirrored = asset_of([0.1, 0.1, 0.05]).covariance.clone()
    mirrored[:3] = torch.tensor([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # positive in each axis alone
    damaged(tmp_path, covariance=mirrored)
    with pytest.raises(UserError, match=f"3 of {COUNT} covariances have a negative variance"):
        GaussianAsset.load(tmp_path)
    damaged(tmp_path, covariance=torch.full((COUNT, 1), -0.01))
    with pytest.raises(UserError, match=f"{COUNT} of {COUNT} covariances"):
        GaussianAsset.load(tmp_path)


def test_gaussians_without_a_surface_are_shown_alone(tmp_path: Path) -> None:
    asset_of([0.01, 0.01, 0.01]).save(tmp_path / "asset")
    damaged(tmp_path / "asset", opacity=torch.full((COUNT,), 0.02))
    page = make_page(tmp_path / "asset", tmp_path / "page.html", faces=100).read_text()
    assert '"mesh": null' in page
    assert f'"count": {COUNT}' in page
