"""A fit goes on only from a state of its own pictures, cameras and options."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import training_grid

from viewtime.configs.schema.reconstruct import GaussianOptions, InitOptions, MeshOptions, ReconstructConfig
from viewtime.errors import UserError
from viewtime.recon.command import run, write_asset
from viewtime.recon.fitting.loop import restore
from viewtime.recon.fitting.resume import close_states, fit_mark, open_states
from viewtime.recon.gaussians.fit import GaussianFit

CONFIG = ReconstructConfig(
    grid=Path("grid"), gaussians=GaussianOptions(count=80, static_iterations=6, dynamic_iterations=9),
    mesh=MeshOptions(enabled=False), save_every=4, orbit_seconds=0.0, device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def grid():
    return training_grid(views=3, frames=2, size=24)


class KilledError(Exception):
    """Stands for a kill: nothing of ours runs after it."""


def killed_run(grid, config, out, monkeypatch, after: int) -> None:
    """A run that ends at its `after`-th saved state."""
    saves, real = [], GaussianFit.save

    def save(self, path):
        real(self, path)
        saves.append(path)
        if len(saves) == after:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(GaussianFit, "save", save)
        with pytest.raises(KilledError):
            write_asset(grid, config, out)


def positions(folder: Path) -> torch.Tensor:
    from viewtime.recon.assets import load_asset

    return load_asset(folder).means


def test_another_grids_state_is_left_and_its_own_is_gone_on_from(grid, tmp_path, monkeypatch):
    other = dataclasses.replace(grid, frames=grid.frames.flip(-1))
    write_asset(grid, CONFIG, tmp_path / "whole")
    killed_run(other, CONFIG, tmp_path / "out", monkeypatch, after=2)
    assert (tmp_path / "out" / "state.pt").is_file()
    killed_run(grid, CONFIG, tmp_path / "out", monkeypatch, after=2)
    restored = []
    monkeypatch.setattr("viewtime.recon.fitting.loop.restore", lambda *a: restored.append(a) or restore(*a))
    write_asset(grid, CONFIG, tmp_path / "out")
    assert len(restored) == 1
    torch.testing.assert_close(positions(tmp_path / "out"), positions(tmp_path / "whole"), rtol=0, atol=1e-5)
    assert not list((tmp_path / "out").glob("state*"))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"gaussians": GaussianOptions(count=81)},
        {"held_out": (1,)},
        {"init": InitOptions(source="random")},
        {"early_stop": 0.1},
        {"method": "nerf"},
    ],
)
def test_changed_options_start_anew(grid, tmp_path, change, caplog):
    open_states(tmp_path, grid, CONFIG)
    (tmp_path / "state.pt").write_bytes(b"x")
    open_states(tmp_path, grid, dataclasses.replace(CONFIG, save_every=9, out=Path("x"), mesh=MeshOptions()))
    assert (tmp_path / "state.pt").is_file()
    open_states(tmp_path, grid, dataclasses.replace(CONFIG, **change))
    assert not (tmp_path / "state.pt").is_file()


def test_no_resume_and_the_end_of_a_run_delete_the_states(grid, tmp_path):
    open_states(tmp_path, grid, CONFIG)
    (tmp_path / "first_pass.pt").write_bytes(b"x")
    open_states(tmp_path, grid, dataclasses.replace(CONFIG, resume=False))
    assert not (tmp_path / "first_pass.pt").is_file()
    close_states(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pictures_cameras_and_files_count_by_their_content(grid, tmp_path):
    base = fit_mark(grid, CONFIG)
    assert fit_mark(dataclasses.replace(grid, frames=grid.frames.clone()), CONFIG) == base
    turned = dataclasses.replace(grid.orbit, azimuth=grid.orbit.azimuth + 1)
    assert fit_mark(dataclasses.replace(grid, cameras=turned), CONFIG) != base
    points = tmp_path / "p.npy"
    config = dataclasses.replace(CONFIG, init=InitOptions(source="points", points=points))
    np.save(points, np.zeros((4, 3)))
    first = fit_mark(grid, config)
    np.save(points, np.ones((4, 3)))
    assert fit_mark(grid, config) != first


def test_a_damaged_state_is_one_line(grid, tmp_path, monkeypatch):
    killed_run(grid, CONFIG, tmp_path / "out", monkeypatch, after=1)
    state = tmp_path / "out" / "state.pt"
    for damaged in (state.read_bytes()[:200], b"", b"no archive"):
        state.write_bytes(damaged)
        with pytest.raises(UserError, match=r"state\.pt is damaged .*--no-resume"):
            write_asset(grid, CONFIG, tmp_path / "out")


def test_an_assets_mesh_goes_with_it(grid, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mesh.safetensors").write_bytes(b"of an earlier asset")
    write_asset(grid, CONFIG, tmp_path / "out")
    assert not (tmp_path / "out" / "mesh.safetensors").is_file()


def test_the_nerfs_renders_do_not_take_the_inputs_place(grid, tmp_path):
    grid.save(tmp_path / "grid", lossless=True)
    with pytest.raises(UserError, match="is the input, and the NeRF's renders go there"):
        run(dataclasses.replace(CONFIG, grid=tmp_path / "grid", out=tmp_path, method="nerf"))
