"""Consistent4D's published layout on one side or on both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from viewtime.cameras import regular_orbit
from viewtime.cli import main
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.images import write_image
from viewtime.sample.metrics.consistent4d import objects_in, read_object

VIEWS, FRAMES, SIZE = 4, 11, 24


def pictures(seed: int) -> torch.Tensor:
    """Smooth RGBA, [V, F, 4, H, W]: frames past 9, so that names sort otherwise than numbers."""
    coarse = torch.rand(VIEWS * FRAMES, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear")
    return rearrange(fine, "(v f) c h w -> v f c h w", v=VIEWS)


def write_object(folder: Path, frames: torch.Tensor) -> None:
    for view, row in enumerate(frames):
        for frame, picture in enumerate(row):
            path = folder / f"eval_{view}" / f"{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("gt")
    for seed, name in enumerate(("aurorus", "skull")):
        write_object(root / name, pictures(seed))
    return root


def test_an_object_is_read_view_by_view_in_the_order_of_numbers_on_white(truth: Path):
    assert [folder.name for folder in objects_in(truth)] == ["aurorus", "skull"]
    assert objects_in(truth / "skull") == [truth / "skull"]
    grid = read_object(truth / "skull")
    assert (grid.shape, grid.cameras) == ((VIEWS, FRAMES, 3, SIZE, SIZE), None)
    rgb, alpha = pictures(1)[:, :, :3], pictures(1)[:, :, 3:]
    torch.testing.assert_close(grid.frames, rgb * alpha + 1 - alpha, rtol=0, atol=3 / 255)
    assert not bool(grid.known.any())


def test_runs_of_ours_are_scored_by_the_views_that_they_made(truth: Path, tmp_path: Path):
    """OUT/OBJECT/grid as `viewtime sample --videos` leaves them: the input first, then the four views."""
    for seed, name in enumerate(("aurorus", "skull")):
        frames = pictures(seed)
        whole = torch.cat([torch.full_like(frames[:1], 0.5), frames])
        known = torch.zeros(whole.shape[:2], dtype=torch.bool)
        known[0] = True
        grid = FrameGrid(whole, known, regular_orbit(VIEWS + 1, FRAMES), 24.0)
        grid.save(tmp_path / "runs" / name / "grid", lossless=True)
    arguments = ["--pred", str(tmp_path / "runs"), "--gt", str(truth), "--out", str(tmp_path / "out")]
    assert main(["evaluate", *arguments, "--metrics", "psnr", "fvd_f", "--bootstrap", "0"]) == 0
    found = json.loads((tmp_path / "out" / "evaluate.json").read_text())
    assert [pair["name"] for pair in found["pairs"]] == ["aurorus", "skull"]
    assert all(pair["values"]["psnr"] > 45 for pair in found["pairs"])
    both = ["--pred", str(truth), "--gt", str(truth), "--out", str(tmp_path / "same")]
    assert main(["evaluate", *both, "--metrics", "psnr", "--bootstrap", "0"]) == 0
    found = json.loads((tmp_path / "same" / "evaluate.json").read_text())
    assert [pair["values"]["psnr"] for pair in found["pairs"]] == [100, 100]


def test_a_view_that_is_missing_or_shorter_is_named(tmp_path: Path):
    write_object(tmp_path / "a", pictures(0)[:, :3])
    (tmp_path / "a" / "eval_2" / "2.png").unlink()
    with pytest.raises(UserError, match="differ: 2 frames of 24×24, 3 frames of 24×24"):
        read_object(tmp_path / "a")
    (tmp_path / "a" / "eval_2").rename(tmp_path / "a" / "eval_7")
    with pytest.raises(UserError, match="holds 4 views, but no eval_2"):
        read_object(tmp_path / "a")


def test_half_an_object_is_named_and_not_taken_for_another_layout(truth: Path, tmp_path: Path):
    """A picture that is missing in all views shifts the later ones: equal numbers of frames are not equal frames."""
    for part in ("first view", "one frame"):
        shutil.copytree(truth / "skull", tmp_path / part / "skull")
    shutil.rmtree(tmp_path / "first view" / "skull" / "eval_0")
    assert objects_in(tmp_path / "first view") == [tmp_path / "first view" / "skull"]
    with pytest.raises(UserError, match="3 views, but no eval_0"):
        read_object(tmp_path / "first view" / "skull")
    for view in range(VIEWS):
        (tmp_path / "one frame" / "skull" / f"eval_{view}" / "2.png").unlink()
    with pytest.raises(UserError, match="frames 0 to 10, but no frame 2"):
        read_object(tmp_path / "one frame" / "skull")
