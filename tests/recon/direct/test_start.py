"""A fit from an asset: what it may start from, and what is refused before anything is done or thrown away."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scenes import training_grid

from viewtime.configs.schema.reconstruct import (
    DirectOptions,
    GaussianOptions,
    InitOptions,
    MeshOptions,
    ReconstructConfig,
)
from viewtime.errors import UserError
from viewtime.recon.command import write_asset
from viewtime.recon.fitting.resume import fit_mark
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.fit import GaussianFit

FRAMES = 2


@pytest.fixture(scope="module")
def grid():
    return training_grid(views=3, frames=FRAMES, size=24)


def small_asset(folder: Path, place: float = 0.0, frames: int = FRAMES) -> Path:
    """Thirty Gaussians about (place, 0, 0)."""
    generator = torch.Generator().manual_seed(0)
    means = 0.1 * torch.randn(frames, 30, 3, generator=generator) + torch.tensor([place, 0.0, 0.0])
    turn = torch.eye(3).expand(frames, 30, 3, 3)
    asset = GaussianAsset(
        means, 1e-3 * torch.eye(3).repeat(30, 1, 1), torch.full((30,), 0.7), torch.rand(30, 3), turn, 12
    )
    folder.mkdir(parents=True)
    asset.save(folder)
    return folder


def config_of(**options) -> ReconstructConfig:
    return ReconstructConfig(
        Path("grid"), gaussians=GaussianOptions(count=40, static_iterations=2, dynamic_iterations=2),
        mesh=MeshOptions(enabled=False), orbit_seconds=0.0, device="cpu",
    ) if not options else dataclasses.replace(config_of(), **options)  # fmt: skip


def from_asset(folder: Path) -> InitOptions:
    return InitOptions(source="asset", asset=folder)


def test_the_asset_is_what_the_path_means(grid, tmp_path):
    small_asset(tmp_path / "a run" / "asset")
    for number, named in enumerate(("a run", "a run/asset", "a run/asset/asset.json")):
        write_asset(grid, config_of(init=from_asset(tmp_path / named)), tmp_path / f"out {number}")
        assert (tmp_path / f"out {number}" / "gaussians.safetensors").is_file()


def test_the_asset_that_a_fit_starts_from_is_not_replaced(grid, tmp_path):
    asset = small_asset(tmp_path / "run" / "asset")
    before = (asset / "gaussians.safetensors").read_bytes()
    with pytest.raises(UserError, match="choose another --out"):
        write_asset(grid, config_of(init=from_asset(tmp_path / "run")), asset)
    assert (asset / "gaussians.safetensors").read_bytes() == before


def test_only_the_gaussians_of_the_asset_decide_whether_a_fit_goes_on(grid, tmp_path):
    config = config_of(init=from_asset(small_asset(tmp_path / "asset")))
    mark = fit_mark(grid, config)
    (tmp_path / "asset" / "asset.html").write_text("as `viewtime view` writes it")
    assert fit_mark(grid, config) == mark
    weights = tmp_path / "asset" / "gaussians.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "means": tensors["means"] + 0.01}, weights)
    assert fit_mark(grid, config) != mark


@pytest.mark.parametrize(
    ("place", "frames", "change", "words"),
    [
        (0.0, 3, {}, "has 3 frames, the grid 2"),
        (100.0, FRAMES, {}, "none of the .* Gaussians .* where the cameras look"),
        (0.0, FRAMES, {"gaussians": GaussianOptions(count=40, motion="mlp")}, "control_points or free"),
    ],
)
def test_a_start_that_cannot_be_is_refused_before_the_fit(grid, tmp_path, monkeypatch, place, frames, change, words):
    monkeypatch.setattr(GaussianFit, "step", lambda self: pytest.fail("a fit has begun"))
    init = from_asset(small_asset(tmp_path / "asset", place, frames))
    with pytest.raises(UserError, match=words):
        write_asset(grid, config_of(init=init, **change), tmp_path / "out")


def test_tracks_of_other_frames_and_points_out_of_sight_are_refused_before_the_fit(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(GaussianFit, "step", lambda self: pytest.fail("a fit has begun"))
    points = np.random.default_rng(0).normal(size=(20, 3)) * 0.1
    np.savez(tmp_path / "tracks.npz", tracks=np.stack([points] * 5))
    np.save(tmp_path / "far.npy", points + 40)
    for name, words in (("tracks.npz", "over 5 frames; this grid has 2"), ("far.npy", "where the cameras look")):
        init = InitOptions(source="points", points=tmp_path / name)
        with pytest.raises(UserError, match=words):
            write_asset(grid, config_of(init=init), tmp_path / "out")


def test_a_nerfs_mesh_is_refused_its_start_before_the_nerf(grid, tmp_path, monkeypatch):
    monkeypatch.setattr("viewtime.recon.nerf.reconstruct.fit_nerf", lambda *a: pytest.fail("a NeRF has begun"))
    for init in (from_asset(small_asset(tmp_path / "asset", frames=3)), InitOptions(source="points")):
        with pytest.raises(UserError, match=r"has 3 frames, the grid 2|needs --init\.points"):
            write_asset(grid, config_of(method="nerf", init=init, mesh=MeshOptions()), tmp_path / "out")


def test_a_wrong_start_throws_no_state_away(grid, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "state.pt").write_bytes(b"of hours")
    with pytest.raises(UserError, match="has 3 frames"):
        write_asset(grid, config_of(init=from_asset(small_asset(tmp_path / "asset", frames=3))), out)
    assert (out / "state.pt").read_bytes() == b"of hours"


@pytest.mark.parametrize("init", [InitOptions(asset=Path("a")), InitOptions(source="random", points=Path("p.npy"))])
def test_what_no_start_uses_is_refused(grid, tmp_path, init):
    with pytest.raises(UserError, match=r"is not used by --init\.source"):
        write_asset(grid, config_of(init=init), tmp_path / "out")


def test_the_direct_method_starts_from_nothing_and_says_what_its_cells_may_be(grid, tmp_path):
    known = dataclasses.replace(grid, known=torch.ones(grid.known.shape, dtype=torch.bool))
    direct = config_of(method="direct")
    wrong = {
        "makes none": {"init": InitOptions(source="random")},
        "--direct.cells 0; must be 8 to 1024": {"direct": DirectOptions(cells=0)},
        "--direct.cells 72: .*64": {"direct": DirectOptions(cells=72)},
        "--direct.weights mini: mini has no solid": {"direct": DirectOptions(weights="mini")},
    }
    for words, change in wrong.items():
        with pytest.raises(UserError, match=words):
            write_asset(known, dataclasses.replace(direct, **change), tmp_path / "out")


@pytest.mark.parametrize("name", ["linear", "means", "covariance"])
def test_numbers_too_large_to_compute_with_are_damage(tmp_path, name):
    weights = small_asset(tmp_path / "asset") / "gaussians.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, name: tensors[name] * 1e30 + 1e30}, weights)
    with pytest.raises(UserError, match=f"is damaged: {name}"):
        GaussianAsset.load(tmp_path / "asset")


def test_the_direct_method_says_which_frames_of_its_input_are_broken(grid, tmp_path):
    frames = grid.frames.clone()
    frames[0, 1, 0, 3, 3] = float("nan")
    known = torch.ones(grid.known.shape, dtype=torch.bool)
    with pytest.raises(UserError, match=r"view 0, the input, .* frames \[1\]"):
        write_asset(dataclasses.replace(grid, frames=frames, known=known), config_of(method="direct"), tmp_path / "out")
