"""Captioned grids: what a caption says is what the picture shows; kept files, positions, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_gltf import octahedron

from viewtime.configs.schema.captioned import CaptionedAsset, CaptionedSet
from viewtime.data.live.captioned import LUMINANCE, CaptionedGrids, captioned_stream, coloured, render_captioned
from viewtime.errors import UserError

WORDS = ["ball", "red", "blue", "rises rising rise"]
SMALL = CaptionedSet(
    {"ball": CaptionedAsset("ball.glb", {"rises": "up"})},
    {"red": [1.0, 0.1, 0.1], "blue": [0.1, 0.2, 1.0]},
    rings=3, instants=4, size=16, shapes=[[1, 1], [4, 2]],
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    builder = octahedron(radius=0.4)
    builder.animate("up", 0, "translation", [0, 1], np.array([[0, 0, 0], [0, 1.0, 0]]))
    builder.write(tmp_path / "ball.glb")
    return render_captioned(SMALL, tmp_path, tmp_path / "grids")


def test_a_batch_shows_what_it_says(folder):
    stream = CaptionedGrids(SMALL, folder, WORDS, 8, seed=0, rank=0, world=1)
    batches = [batch for batch, _ in zip(stream, range(12))]
    assert {tuple(batch["x0"].shape) for batch in batches} == {(8, 1, 1, 4, 16, 16), (1, 4, 2, 4, 16, 16)}
    seen = set()
    for batch in batches:
        for grid, words, instant in zip(batch["x0"], batch["cond"]["words"], batch["cond"]["instant"]):
            inside = grid[:, :, 3:] > 0.9
            red, _, blue = ((grid[:, :, c : c + 1])[inside].mean().item() for c in range(3))
            colour = {(1, 0): 1, (0, 1): -1, (0, 0): 0}[tuple(words[1:3].int().tolist())]
            assert colour * (red - blue) >= 0.3 * abs(colour), "the colour is the caption's"
            assert words[0] == 1
            rows = torch.arange(16.0)[:, None].expand(16, 16)
            height = [-(rows * (cell[3] > 0)).sum().item() / (cell[3] > 0).sum().item() for cell in grid[0]]
            assert all((later - earlier) * (b - a) > 0 for earlier, later, a, b in zip(
                height, height[1:], instant[0], instant[0, 1:])), "it rises with its instant"  # fmt: skip
            seen.add((colour, words[3].item()))
    assert len(seen) > 4, "colours, and captions with and without the motion"


def test_rings_and_position(folder):
    stream, again = (CaptionedGrids(SMALL, folder, WORDS, 8, seed=0, rank=1, world=2) for _ in range(2))
    batches = [batch for batch, _ in zip(stream, range(6))]
    again.load_state_dict({"position": 5})
    assert torch.equal(next(iter(again))["x0"], batches[5]["x0"])
    other = next(iter(CaptionedGrids(SMALL, folder, WORDS, 8, seed=0, rank=0, world=2)))
    assert other["x0"].shape != batches[0]["x0"].shape or not torch.equal(other["x0"], batches[0]["x0"])
    ring = next(batch["cond"]["azimuth"] for batch in batches if batch["x0"].shape[1] == 4)
    assert torch.allclose(torch.remainder(ring[0, :, 0].diff(), 360), torch.full((3,), 90.0), atol=1e-3)


def test_shades_of_a_colour():
    pixels = np.full((1, 3, 2, 2), 0.3, np.float32)
    shade = coloured(pixels, [1.0, 0.0, 0.0], usual=0.3)
    assert shade[0, 1:].max() == pytest.approx(0.15 * 0.3)
    assert shade[0, 0].mean() == pytest.approx(0.85 * 0.6 + 0.15 * 0.3)
    assert LUMINANCE.sum() == pytest.approx(1)


def test_what_does_not_fit_is_refused(folder, tmp_path):
    again = render_captioned(replace(SMALL, shapes=[[1, 1]], colours={}), tmp_path, folder)
    assert again == folder, "what the files hold is the same"
    older = json.loads((folder / "words.json").read_text())
    del older["distance"], older["assets"]["ball"]["worn"]
    (folder / "words.json").write_text(json.dumps(older))
    assert render_captioned(SMALL, tmp_path, folder) == folder, "what an older version left out is at its default"
    with pytest.raises(UserError, match="holds captioned grids of another config"):
        render_captioned(replace(SMALL, rings=2), tmp_path, folder)
    with pytest.raises(UserError, match=r"words lacks blue"):
        CaptionedGrids(SMALL, folder, ["ball", "red", "rises"], 8, seed=0, rank=0, world=1)
    with pytest.raises(UserError, match=r"need ball.glb in"):
        render_captioned(SMALL, tmp_path / "none", tmp_path / "new")
    for asset, message in (
        (CaptionedAsset("ball.glb", {"rises": "down"}), "has no clip 'down'; it has: up"),
        (CaptionedAsset("ball.glb", {"rises": "up"}, ["hat"]), "has no mesh 'hat'; it has"),
    ):
        with pytest.raises(UserError, match=message):
            render_captioned(replace(SMALL, assets={"ball": asset}), tmp_path, tmp_path / "new")
    with pytest.raises(UserError, match="shape of 3 × 1"):
        replace(SMALL, shapes=[[3, 1]])
    with pytest.raises(UserError, match="unknown key"):
        captioned_stream({"asets": "x"}, batch_size=8, seed=0, rank=0, world=1)
