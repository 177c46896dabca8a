"""Frames that are no squares, 12 x 20 pixels, through every source, the loader and the preparation of videos."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from viewtime.configs.schema.data import DataConfig, OnTheFly
from viewtime.configs.schema.sample import PreprocessOptions
from viewtime.data.build import build_loader, build_mixture
from viewtime.data.live.asset_list import list_assets
from viewtime.data.pseudo4d import cut_frame
from viewtime.data.samples import generator_for
from viewtime.data.sources import Consumer
from viewtime.errors import UserError
from viewtime.sample.input.preprocess import prepare_video
from viewtime.train.streams.synthetic import synthetic_grid
from viewtime.video import Video, write_video

ASSETS = Path(os.environ.get("VIEWTIME_ASSETS", Path(__file__).resolve().parents[3] / "shared" / "assets"))
HEIGHT, WIDTH = 12, 20


def gradient(height: int, width: int, frames: int = 4) -> np.ndarray:
    """Red grows with x, green with y, both over the whole picture; uint8 [F, H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    picture = np.stack([x / width, y / height, np.full_like(x, 0.5)], axis=-1) * 255
    return np.repeat(picture[None].astype(np.uint8), frames, axis=0)


def test_videos_become_rectangular_grids(tmp_path):
    write_video(tmp_path / "a.mp4", gradient(48, 64), 8)
    config = DataConfig(
        videos=str(tmp_path), channels=3, views=3, frames=2, resolution=HEIGHT, width=WIDTH, batch_size=2, workers=0
    )
    batch = next(iter(build_loader(config)))
    assert batch.x0.shape == (2, 3, 2, 3, HEIGHT, WIDTH)
    assert batch.cond["known_frames"].shape == batch.x0.shape


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48), (24, 40)])
def test_the_cut_covers_as_much_of_the_picture_as_its_shape_allows(height, width):
    video = torch.from_numpy(gradient(height, width)).permute(0, 3, 1, 2)
    cut = cut_frame(np.random.default_rng(0), video, (HEIGHT, WIDTH)).float() / 255
    assert cut.shape == (4, 3, HEIGHT, WIDTH)
    across, down = (cut[0, 0, 0, -1] - cut[0, 0, 0, 0]).item(), (cut[0, 1, -1, 0] - cut[0, 1, 0, 0]).item()
    whole_x, whole_y = (WIDTH - 1) / WIDTH, (HEIGHT - 1) / HEIGHT
    shape = (width / height) / (WIDTH / HEIGHT)
    assert across == pytest.approx(whole_x * min(1, 1 / shape), abs=0.04)
    assert down == pytest.approx(whole_y * min(1, shape), abs=0.04)


def test_a_portrait_width_is_refused(tmp_path):
    write_video(tmp_path / "a.mp4", gradient(48, 64), 8)
    with pytest.raises(
        UserError, match=r"data\.options\.width 8 is less than the height, data\.options\.resolution 12"
    ):
        build_mixture(DataConfig(videos=str(tmp_path), resolution=12, width=8))


def test_synthetic_discs_stay_round():
    grid, _ = synthetic_grid(0, 3, 1, 1, 3, 48, 96)
    assert grid.shape == (1, 1, 3, 48, 96)
    last = grid[0, 0, :, :, :]
    colours, counts = last.reshape(3, -1).unique(dim=1, return_counts=True)
    disc = colours[:, counts.argsort(descending=True)[1]]
    y, x = torch.nonzero((last == disc[:, None, None]).all(0), as_tuple=True)
    assert abs(int(y.max() - y.min()) - int(x.max() - x.min())) <= 1


def test_assets_are_rendered_into_the_rectangle_undistorted():
    """A rectangle equals the middle rows of a square with the same pixels per degree along x."""
    if not (ASSETS / "khronos_Fox.glb").is_file():
        pytest.skip(f"no assets at {ASSETS}; name them by VIEWTIME_ASSETS")
    from viewtime.cameras import regular_orbit
    from viewtime.render_objaverse.framing import normalise
    from viewtime.render_objaverse.gl import GLRenderer
    from viewtime.render_objaverse.gltf import load_scene
    from viewtime.render_objaverse.pose import pose_scene

    scene = load_scene(ASSETS / "khronos_Fox.glb")
    posed = pose_scene(scene, scene.clips[0], [0.1, 0.3])
    cameras = regular_orbit(3, 2, distance=1.6).camera_to_world().numpy()
    place = normalise(posed.positions)
    height, width, fov = 36, 64, 30.0
    wide = float(np.degrees(2 * np.arctan(np.tan(np.radians(fov / 2)) * width / height)))
    with GLRenderer((height, width)) as renderer:
        made = renderer.draw(posed, cameras, fov, placement=place)
    with GLRenderer(width) as renderer:
        square = renderer.draw(posed, cameras, wide, placement=place)
    assert made.shape == (3, 2, height, width, 4)
    top = (width - height) // 2
    difference = np.abs(made.astype(int) - square[:, :, top : top + height].astype(int))
    assert (made[..., 3] > 0).mean() > 0.1
    assert np.mean(difference) < 0.5


def test_the_asset_stream_gives_rectangles():
    if not (ASSETS / "khronos_Fox.glb").is_file():
        pytest.skip(f"no assets at {ASSETS}; name them by VIEWTIME_ASSETS")
    from viewtime.data.live.stream import AssetSource

    source = AssetSource(list_assets(str(ASSETS)), 3, 2, (36, 64), options=OnTheFly(elevation_min=10, elevation_max=10))
    sample = source.draw(Consumer(0), 0, generator_for(0, 1))
    assert sample.frames is not None
    assert sample.frames.shape == (3, 2, 4, 36, 64)
    # The object is whole, and as large as the rectangle allows: it comes near the border somewhere.
    alpha = sample.frames[:, :, 3]
    edges = [alpha[..., 0, :], alpha[..., -1, :], alpha[..., :, 0], alpha[..., :, -1]]
    assert max(int(edge.max()) for edge in edges) < 128
    rows, columns = (alpha > 127).any(3).any(1).any(0), (alpha > 127).any(2).any(1).any(0)
    room = min(int(flags.nonzero().min()) for flags in (rows, columns, rows.flip(0), columns.flip(0)))
    assert room <= 3


@pytest.mark.parametrize(("height", "width"), [(24, 40), (24, 80), (48, 40)])
def test_crops_of_a_video_have_the_cells_shape(height, width):
    video = Video(gradient(height, width), 8.0)
    for crop in ("fill", "none"):
        options = PreprocessOptions(background="keep", crop=crop)
        prepared = prepare_video(video, (HEIGHT, WIDTH), options)
        assert prepared.cells.shape == (4, HEIGHT, WIDTH, 4)
        box, cell = prepared.crops[0], prepared.cells[0].astype(float)
        inside = cell[..., 3] > 254
        y, x = np.nonzero(inside)
        # What the record says of a cell's pixel is what the picture shows there.
        source_x = box.left + (x + 0.5) * box.side / HEIGHT
        source_y = box.top + (y + 0.5) * box.side / HEIGHT
        assert np.abs(cell[inside][:, 0] / 255 - source_x / width).max() < 0.04
        assert np.abs(cell[inside][:, 1] / 255 - source_y / height).max() < 0.04
        assert inside.all() == (crop == "fill" or width / height == WIDTH / HEIGHT)


def test_an_object_is_framed_by_the_shorter_direction():
    frames = np.full((2, 60, 60, 3), 255, np.uint8)
    frames[:, 20:40, 10:50] = 40  # 40 wide, 20 high
    prepared = prepare_video(Video(frames, 8.0), (HEIGHT, WIDTH), PreprocessOptions(object_share=0.8))
    columns = np.flatnonzero((prepared.cells[0, ..., 3] > 127).any(axis=0))
    rows = np.flatnonzero((prepared.cells[0, ..., 3] > 127).any(axis=1))
    assert len(columns) == pytest.approx(0.8 * WIDTH, abs=1)
    assert len(rows) == pytest.approx(0.8 * WIDTH / 2, abs=1)
