import json

import numpy as np
import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.dnerf import open_grid, write_dnerf
from viewtime.errors import UserError
from viewtime.exact_film import read_exact, write_exact
from viewtime.grid import FrameGrid


def make_grid(V=3, F=4, C=4, H=31, W=46) -> FrameGrid:
    """A smooth coloured blob that moves with the frame and whose colour depends on the view; odd height."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, H), torch.linspace(-1, 1, W), indexing="ij")
    cells = []
    for v in range(V):
        for f in range(F):
            alpha = torch.sigmoid(12 * (0.5 - ((x - 0.2 * f) ** 2 + y**2).sqrt()))
            colour = torch.stack([0.2 + 0.2 * v + 0 * x, 0.5 + 0.3 * x, 0.5 - 0.3 * y])
            rgba = torch.cat([colour, alpha[None]])
            cells.append(rgba if C == 4 else colour * alpha + 1 - alpha)
    frames = torch.stack(cells).reshape(V, F, C, H, W).clamp(0, 1)
    known = torch.zeros(V, F, dtype=torch.bool)
    known[0] = True
    return FrameGrid(frames, known, regular_orbit(V, F), fps=7.0, provenance={"source": "test"})


def test_lossless_round_trip_is_exact_to_a_grey_level(tmp_path):
    grid = make_grid()
    loaded = FrameGrid.load(grid.save(tmp_path / "grid", lossless=True))
    assert loaded.shape == grid.shape
    assert (loaded.frames - grid.frames).abs().max() <= 0.5 / 255 + 1e-6
    assert loaded.fps == 7.0
    assert torch.equal(loaded.known, grid.known)
    torch.testing.assert_close(loaded.cameras.camera_to_world(), grid.cameras.camera_to_world())


@pytest.mark.parametrize("channels", [3, 4])
def test_video_round_trip_keeps_picture_and_mask(tmp_path, channels):
    grid = make_grid(C=channels)
    loaded = FrameGrid.load(grid.save(tmp_path / "grid"))
    assert loaded.shape == grid.shape
    assert (loaded.rgb() - grid.rgb()).abs().mean() < 0.01
    if channels == 4:
        masks = [picture.frames[:, :, 3] > 0.5 for picture in (loaded, grid)]
        assert (masks[0] != masks[1]).float().mean() < 0.01


def test_rows_columns_and_diagonals_are_the_cells_they_name():
    grid = make_grid(V=2, F=5)
    assert torch.equal(grid.row(1), grid.frames[1])
    assert torch.equal(grid.column(3), grid.frames[:, 3])
    cells = [(0, 0), (1, 1), (0, 2), (1, 3), (0, 4)]
    assert torch.equal(grid.diagonal(), torch.stack([grid.frames[v, f] for v, f in cells]))
    cells = [(1, 0), (0, 1), (1, 2), (0, 3), (1, 4)]  # the shorter axis begins there and wraps
    assert torch.equal(grid.diagonal(3), torch.stack([grid.frames[v, f] for v, f in cells]))
    tall = make_grid(V=5, F=2)
    assert torch.equal(tall.diagonal(), torch.stack([tall.frames[v, v % 2] for v in range(5)]))
    part = grid[1, 2:4]
    assert part.shape[:2] == (1, 2)
    assert torch.equal(part.frames[0, 1], grid.frames[1, 3])
    assert part.cameras.azimuth[0, 0] == grid.cameras.azimuth[1, 2]


def test_dnerf_round_trip(tmp_path):
    grid = make_grid(H=32, W=32)
    loaded = open_grid(write_dnerf(grid, tmp_path / "dnerf"))
    assert (loaded.frames - grid.frames).abs().max() <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(loaded.cameras.camera_to_world(), grid.cameras.camera_to_world(), atol=1e-5, rtol=0)
    assert loaded.cameras.fov_y == pytest.approx(grid.cameras.fov_y, abs=1e-4)


def test_saving_again_replaces_the_grid_and_leaves_nothing_else(tmp_path):
    make_grid(V=3).save(tmp_path / "grid", lossless=True)
    make_grid(V=2).save(tmp_path / "grid", lossless=True)
    assert FrameGrid.load(tmp_path / "grid").shape[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["grid"]


def test_damaged_grids_say_what_is_wrong(tmp_path):
    folder = make_grid().save(tmp_path / "grid", lossless=True)
    with pytest.raises(UserError, match=r"no grid\.json"):
        FrameGrid.load(tmp_path)
    (folder / "view_001" / "frame_002.png").unlink()
    with pytest.raises(UserError, match=r"frame_002\.png"):
        FrameGrid.load(folder)
    record = json.loads((folder / "grid.json").read_text())
    (folder / "grid.json").write_text(json.dumps(record | {"version": 99}))
    with pytest.raises(UserError, match="format 99"):
        FrameGrid.load(folder)
    (folder / "grid.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        FrameGrid.load(folder)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="3 or 4"):
        FrameGrid(torch.zeros(1, 1, 2, 8, 8), torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(UserError, match="known"):
        FrameGrid(torch.zeros(1, 2, 3, 8, 8), torch.ones(1, 1, dtype=torch.bool))


@pytest.mark.parametrize("channels", [3, 4])
def test_a_grid_is_measured_on_cells_without_loss(tmp_path, channels):
    """One-pixel stripes of saturated colours, which 4:2:0 video turns grey, come back as they were."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, channels, 17, 23), generator=generator) / 255
    frames[:, :, 0, :, ::2], frames[:, :, 2, :, 1::2] = 1.0, 0.0
    grid = FrameGrid(frames, torch.zeros(2, 3, dtype=torch.bool), regular_orbit(2, 3), fps=12.5)
    folder = grid.save(tmp_path / "grid")
    torch.testing.assert_close(FrameGrid.load(folder).frames, frames, rtol=0, atol=1e-6)
    record = json.loads((folder / "grid.json").read_text())
    assert record["exact"]
    (folder / "grid.json").write_text(json.dumps(record | {"exact": False}))  # as older grids are read
    assert (FrameGrid.load(folder).rgb() - grid.rgb()).abs().mean() > 0.02
    (folder / "grid.json").write_text(json.dumps(record))
    (folder / "cells_001.mkv").unlink()
    with pytest.raises(UserError, match=r"no such file.*cells_001\.mkv"):
        FrameGrid.load(folder)


def test_exact_films_that_are_damaged_say_so(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 4), dtype=np.uint8)
    path = write_exact(tmp_path / "a.mkv", frames, 12.0)
    assert np.array_equal(read_exact(path, frames.shape), frames)
    assert write_exact(tmp_path / "again.mkv", frames, 12.0).read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="3 frames; 4 are expected"):
        read_exact(path, (4, 8, 10, 4))
    with pytest.raises(UserError, match="10 × 8 pixels"):
        read_exact(path, (3, 8, 9, 4))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"a\.mkv"):
        read_exact(path, frames.shape)


@pytest.mark.parametrize("form", ["pictures", "exact films", "films"])
def test_colours_behind_half_an_alpha_come_back(tmp_path, form):
    """Films are kept on white: what is read is the colour before that, not twice as white."""
    cell = torch.tensor([0.2, 0.6, 0.4, 0.5])[:, None, None].expand(4, 16, 16)
    grid = FrameGrid(cell.repeat(1, 2, 1, 1, 1), torch.zeros(1, 2, dtype=torch.bool))
    folder = grid.save(tmp_path / "grid", lossless=form == "pictures")
    record = json.loads((folder / "grid.json").read_text())
    (folder / "grid.json").write_text(json.dumps(record | {"exact": form == "exact films"}))
    torch.testing.assert_close(FrameGrid.load(folder).frames, grid.frames, atol=0.04, rtol=0)
