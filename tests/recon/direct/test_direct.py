"""Assets without a fit: shells of solids stand where the solids do, their paths follow, a fit may start from them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from viewtime.cameras import Cameras, regular_orbit
from viewtime.cli import main
from viewtime.configs.schema.reconstruct import (
    DirectOptions,
    GaussianOptions,
    InitOptions,
    MeshOptions,
    ReconstructConfig,
)
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.model.mini.rays import camera_axes, slope_of
from viewtime.model.mini.solid import render_solid
from viewtime.model.registry import build_network, resolved_config
from viewtime.recon.command import write_asset
from viewtime.recon.direct.shell import Shell, shell_of
from viewtime.recon.direct.tracks import track
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.initialise import filled, first_gaussians, of_asset
from viewtime.recon.gaussians.reconstruct import bake, fit_gaussians
from viewtime.recon.render.moving import MovingGaussians
from viewtime.video import write_video
from viewtime.weights import save_weights

SIDE, DEPTHS = 32, 16
DISTANCE = 1 / math.tan(math.radians(33.8) / 2)


def ellipsoid() -> Tensor:
    """An opaque solid off the middle, green above and red below: [4, DEPTHS, SIDE, SIDE]."""
    z, y, x = torch.meshgrid(*((torch.arange(n) + 0.5) / n * 2 - 1 for n in (DEPTHS, SIDE, SIDE)), indexing="ij")
    solid = torch.zeros(4, DEPTHS, SIDE, SIDE)
    solid[0], solid[1] = (y > 0).float(), (y <= 0).float()
    solid[3] = 5.0 * (((x - 0.15) / 0.35) ** 2 + (y / 0.6) ** 2 + ((z + 0.1) / 0.4) ** 2 < 1)
    return solid


def still(shell: Shell) -> MovingGaussians:
    turn = torch.eye(3).expand(1, len(shell), 3, 3)
    return MovingGaussians(shell.position[None], shell.covariance, shell.opacity, shell.colour, turn, 12.0)


@pytest.mark.parametrize(("elevation", "start", "fov_y"), [(12.0, 0.0, 33.8), (35.0, 70.0, 20.0)])
def test_a_shell_looks_like_its_solid_from_everywhere(elevation: float, start: float, fov_y: float) -> None:
    cameras = regular_orbit(6, 1, elevation=elevation, distance=1 / float(slope_of(torch.tensor(fov_y))), fov_y=fov_y)
    cameras = Cameras(cameras.elevation, cameras.azimuth + start, cameras.distance, fov_y)
    shell = shell_of(ellipsoid(), cameras[:1], 0)
    axes = camera_axes(cameras.elevation[:, 0], cameras.azimuth[:, 0])
    solid = render_solid(ellipsoid()[None], axes[None, 0], axes[None], slope_of(torch.tensor([fov_y])), SIDE)[0]
    seen = still(shell).render_grid(cameras, SIDE, SIDE).frames[:, 0]
    made, true = seen[:, 3] > 0.5, solid[:, 3] > 0
    overlap = (made & true).sum((1, 2)) / (made | true).sum((1, 2))
    assert overlap.min() > 0.85  # a border of half a pixel
    assert overlap.mean() > 0.93
    inside = made & true
    colours = (seen[:, :3] - (solid[:, :3] + 1) / 2).abs().amax(dim=1)
    assert colours[inside].mean() < 0.1


def test_a_solid_without_density_is_no_asset() -> None:
    with pytest.raises(UserError, match="frame 3"):
        shell_of(torch.zeros(4, DEPTHS, SIDE, SIDE), regular_orbit(1, 4), 3)


def test_paths_follow_a_body_that_goes_and_a_limb_that_turns() -> None:
    generator = torch.Generator().manual_seed(0)
    body = torch.rand(700, 3, generator=generator) * torch.tensor([0.2, 0.4, 0.2])
    limb = torch.rand(300, 3, generator=generator) * torch.tensor([0.06, 0.06, 0.4]) - torch.tensor([0.0, 0.0, 0.4])
    colour = torch.cat([torch.tensor([0.8, 0.2, 0.2]).expand(700, 3), torch.tensor([0.2, 0.2, 0.8]).expand(300, 3)])
    shells, places = [], []
    for frame in range(4):
        angle = torch.tensor(0.2 * frame)
        turn = torch.tensor([[1, 0, 0], [0, angle.cos(), -angle.sin()], [0, angle.sin(), angle.cos()]])
        place = torch.cat([body, limb @ turn.T]) + frame * torch.tensor([0.0, 0.05, 0.0])
        places.append(place)
        order = torch.randperm(1000, generator=generator)  # nothing but place and colour says which is which
        shells.append(Shell(place[order], torch.eye(3).expand(1000, 3, 3), torch.ones(1000), colour[order]))
    first = Shell(places[0], torch.eye(3).expand(1000, 3, 3), torch.ones(1000), colour)
    motion = track([first, *shells[1:]])
    _, moved = motion.affine(first.position, torch.arange(4))
    torch.testing.assert_close(moved[0], places[0])
    gone = (places[3] - places[0]).norm(dim=1).mean()
    assert (moved[3] - places[3]).norm(dim=1).mean() < 0.2 * gone


def test_a_fit_may_start_from_an_asset() -> None:
    """The same Gaussians, in the form that is fitted."""
    generator = torch.Generator().manual_seed(1)
    factor = 0.05 * torch.randn(50, 3, 3, generator=generator)
    covariance = factor @ factor.transpose(1, 2) + 1e-5 * torch.eye(3)
    means, colour = torch.randn(2, 50, 3, generator=generator), torch.rand(50, 3, generator=generator)
    opacity = torch.linspace(0.1, 0.9, 50)
    gaussians = of_asset(
        GaussianAsset(means, covariance, opacity, colour, torch.eye(3).expand(2, 50, 3, 3), 12.0), isotropic=False
    )
    torch.testing.assert_close(gaussians.covariance().detach(), covariance, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(gaussians.opacity().detach(), opacity)
    torch.testing.assert_close(gaussians.position.detach(), means[0])


def flat_asset(isotropic: bool) -> GaussianAsset:
    """Five Gaussians, the third by far the largest and the first a point, that a frame turns about z and moves."""
    generator = torch.Generator().manual_seed(2)
    size = torch.tensor([0.0, 0.1, 1.0, 0.1, 0.2])
    flat = torch.diag_embed(torch.stack([size**2, size**2, 0 * size], dim=1))
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    linear = torch.stack([torch.eye(3), turn])[:, None].expand(2, 5, 3, 3)
    means = torch.randn(5, 3, generator=generator)
    return GaussianAsset(
        torch.stack([means, means @ turn.T + 1]), (size**2)[:, None] if isotropic else flat,
        torch.linspace(0.1, 0.9, 5), torch.rand(5, 3, generator=generator), linear, 12.0,
    )  # fmt: skip


@pytest.mark.parametrize("isotropic", [False, True])
def test_of_too_few_gaussians_the_largest_are_split_and_move_as_one(isotropic: bool) -> None:
    asset = flat_asset(isotropic)
    assert filled(asset, 5, torch.Generator()) is asset
    more = filled(asset, 6, torch.Generator().manual_seed(0))
    assert torch.equal(more.means[:, [0, 1, 3, 4]], asset.means[:, [0, 1, 3, 4]])
    torch.testing.assert_close((more.means[:, 2] + more.means[:, 5]) / 2, asset.means[:, 2])
    apart = more.means[:, 2] - asset.means[:, 2]
    torch.testing.assert_close(apart[1], asset.linear[1, 2] @ apart[0])  # as the frame turns it
    if not isotropic:
        assert float(apart[0, 2].abs()) < 1e-2 * float(apart[0].norm())  # within the disc
    torch.testing.assert_close(more.covariance[[2, 5]], asset.covariance[[2, 2]] / 1.6**2)
    assert (more.opacity[5], *more.colour[5]) == (asset.opacity[2], *asset.colour[2])
    many = filled(asset, 37, torch.Generator().manual_seed(0))
    assert many.means.shape == (2, 37, 3)
    assert many.linear.shape == (2, 37, 3, 3)
    assert torch.isfinite(many.means).all()
    assert torch.equal(many.means, filled(asset, 37, torch.Generator().manual_seed(0)).means)


def solid_weights(folder: Path) -> Path:
    """An untrained solid: a slab behind the outline."""
    torch.manual_seed(0)
    network = build_network("mini", {"size": 32, "depth": 0, "frustum_width": 8})
    record = {
        "model": {"name": "mini", "config": resolved_config(network)},
        "trained": {"views": 5, "frames": 4, "steps": 1, "plan": "joint"},
    }
    return save_weights(folder / "solid.safetensors", dict(network.state_dict()), record)


def ball_video(frames: int = 3) -> np.ndarray:
    row, column = np.mgrid[:48, :48]
    clip = np.full((frames, 48, 48, 3), 255, np.uint8)
    for frame in range(frames):
        clip[frame, (row - 24) ** 2 + (column - 20 - 2 * frame) ** 2 < 120] = [200, 60, 40]
    return clip


def made_grid(frames: int = 3) -> FrameGrid:
    """The ball's video as the first view of a grid whose other views nobody has made."""
    rgb = torch.from_numpy(ball_video(frames)).permute(0, 3, 1, 2).float() / 255
    row = torch.cat([rgb, (rgb.mean(dim=1, keepdim=True) < 0.9).float()], dim=1)
    known = torch.zeros(2, frames, dtype=torch.bool)
    known[0] = True
    cameras = regular_orbit(2, frames, elevation=12.0, distance=DISTANCE)
    return FrameGrid(torch.stack([row, row.flip(-1)]), known, cameras)


def test_the_direct_method_makes_an_asset_that_a_fit_starts_from(tmp_path: Path) -> None:
    direct = DirectOptions(weights=str(solid_weights(tmp_path)), cells=64)
    config = ReconstructConfig(
        Path("grid"), method="direct", direct=direct, mesh=MeshOptions(enabled=False), orbit_seconds=0.0
    )
    grid = made_grid()
    paths = write_asset(grid, config, tmp_path / "asset")
    assert {path.name for path in paths} == {
        *("asset.json", "gaussians.safetensors", "asset.html", "preview.png", "metrics.json")
    }
    asset = GaussianAsset.load(tmp_path / "asset")
    seen = asset.render_grid(grid.orbit, 48, 48).frames[0, :, 3] > 0.5
    true = grid.frames[0, :, 3] > 0.5
    assert ((seen & true).sum((1, 2)) / (seen | true).sum((1, 2))).min() > 0.75
    shift = asset.means[2].mean(dim=0) - asset.means[0].mean(dim=0)
    pixel = 2 / 48  # of the picture's half height, which is 1 at this distance
    assert shift[0] == pytest.approx(4 * pixel, rel=0.25)
    start = dataclasses.replace(
        config,
        method="gaussians",
        init=InitOptions(source="asset", asset=tmp_path / "asset"),
        gaussians=GaussianOptions(count=1000, static_iterations=0, dynamic_iterations=1),  # it has more than twice that
    )
    fit, _ = fit_gaussians(grid, start)
    fitted = bake(fit, grid)
    torch.testing.assert_close(fitted.means[0], asset.means[0], atol=5e-3, rtol=0)
    assert (fitted.means[2] - asset.means[2]).norm(dim=1).mean() < 0.1 * shift.norm()


@pytest.mark.slow
def test_sample_writes_the_asset_beside_the_grid(tmp_path: Path) -> None:
    weights = solid_weights(tmp_path)
    write_video(tmp_path / "ball.mp4", ball_video(), 12.0)
    arguments = ["--video", str(tmp_path / "ball.mp4"), "--out", str(tmp_path / "run"), "--asset"]
    assert main(["sample", *arguments, "--weights", str(weights)]) == 0
    folder = tmp_path / "run" / "asset"
    for name in ("asset.json", "gaussians.safetensors", "asset.glb", "asset.html", "orbit.mp4", "metrics.json"):
        assert (folder / name).stat().st_size > 0
    assert json.loads((folder / "metrics.json").read_text())["train"]["iou"] > 0.8


def test_what_has_no_solid_or_no_input_view_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_video(tmp_path / "ball.mp4", ball_video(), 12.0)
    arguments = ["--video", str(tmp_path / "ball.mp4"), "--out", str(tmp_path / "run"), "--asset", "--weights", "mini"]
    assert main(["sample", *arguments]) == 1
    assert "has none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    grid = FrameGrid(torch.rand(3, 2, 4, 32, 32), torch.zeros(3, 2, dtype=torch.bool), regular_orbit(3, 2))
    with pytest.raises(UserError, match="no view of this grid was given"):
        write_asset(grid, ReconstructConfig(Path("grid"), method="direct"), tmp_path / "asset")
    asked = ReconstructConfig(Path("grid"), init=InitOptions(source="asset"))
    with pytest.raises(UserError, match=r"--init\.asset FOLDER"):
        first_gaussians(make_targets(grid), asked)


@pytest.mark.parametrize("model", ["mini", {"name": "mini"}, {"name": "mini", "config": None}])
def test_weights_whose_record_names_no_solid_are_refused_in_words(tmp_path: Path, model, capsys) -> None:
    weights = save_weights(tmp_path / "odd.safetensors", {"a": torch.zeros(1)}, {"model": model})
    write_video(tmp_path / "ball.mp4", ball_video(), 12.0)
    arguments = ["--video", str(tmp_path / "ball.mp4"), "--out", str(tmp_path / "run"), "--asset"]
    assert main(["sample", *arguments, "--weights", str(weights)]) == 1
    assert "has none" in capsys.readouterr().err


def test_looking_for_the_solid_downloads_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(wanted: object, offline: bool) -> Path:
        asked.append(offline)
        raise UserError("not in the cache")

    monkeypatch.setattr("viewtime.model.weight_names.fetch", fetch)
    assert main(["sample", "--video", "ball.mp4", "--asset", "--weights", "sv4d2", "--offline"]) == 1
    assert asked == [True]
