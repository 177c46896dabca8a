"""From video to cells: keying, cropping with its record, resampling, guidance scales of the published scripts."""

import json

import numpy as np
import pytest
import torch
from golden_models import golden
from small_models import ball

from viewtime.configs.schema.sample import CameraOptions, PreprocessOptions
from viewtime.errors import UserError
from viewtime.sample.input.preprocess import bounding_box, prepare_video, resample_frames, write_preview
from viewtime.sample.input.published_crop import on_white, published_crop
from viewtime.sample.plan.trajectory import make_cameras
from viewtime.sample.solver.guidance import Guidance
from viewtime.video import Video


def centre(alpha):
    """Centre of mass (x, y) of an alpha plane, in pixels from the upper left corner."""
    weight = alpha.astype(float)
    y, x = np.indices(alpha.shape) + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize("background", [0, 128, 255])
def test_a_plain_background_is_keyed(background):
    prepared = prepare_video(Video(ball(3, background=background), 10.0), 32)
    alpha = prepared.cells[..., 3]
    share = (alpha > 127).mean()
    assert 0.5 < share < np.pi / 4  # a disc in its bounding box, which fills 0.9 of the side
    inside = prepared.cells[alpha == 255]
    assert np.abs(inside[:, 0].astype(int) - 200).max() <= 2


def test_alpha_is_kept():
    clip = ball(2, channels=4, background=0)
    prepared = prepare_video(Video(clip, 10.0), 40, PreprocessOptions(crop="none"))
    # The picture is 40 x 48, padded to 48 and scaled to 40.
    covered = (clip[0, ..., 3] > 0).sum() * (40 / 48) ** 2
    assert prepared.cells[0, ..., 3].astype(float).sum() / 255 == pytest.approx(covered, rel=0.01)


@pytest.mark.parametrize("crop", ["video", "frame", "none"])
def test_the_record_undoes_the_crop(crop):
    clip = ball(6)
    prepared = prepare_video(Video(clip, 10.0), 64, PreprocessOptions(crop=crop))
    moved = []
    for frame, cell, box in zip(clip, prepared.cells, prepared.crops):
        in_cell = centre(cell[..., 3])
        in_source = centre((frame[..., 1] < 200) * 255)
        assert np.abs(np.array([box.left, box.top]) + in_cell * box.side / 64 - in_source).max() < 0.2
        moved.append(in_cell[0])
    # Motion across the picture stays with one crop and goes when each frame is centred.
    assert (max(moved) - min(moved) < 1.5) == (crop == "frame")


@pytest.mark.parametrize("case", ["rgb_sq", "rgba_sq", "rgb_noratio", "rgb_wide"])
def test_published_crop_golden(case):
    """Bit for bit what the published scripts hand to the network; their quirks for wide pictures included."""
    data = golden.arrays("preprocess_video")
    if f"{case}_in" not in data:
        pytest.skip(f"the folder has no case {case}")
    share, published = float(data[f"{case}_ratio"]), data[f"{case}_out"].numpy()
    cells, _ = published_crop(data[f"{case}_in"].numpy(), published.shape[1], None if share < 0 else share)
    assert np.array_equal(on_white(cells), published)


def test_published_crop_of_a_video():
    """About the picture's middle, not the object's; its record leads back to the source like that of other crops."""
    clip = ball(3, 48, 48)
    prepared = prepare_video(Video(clip, 10.0), 64, PreprocessOptions(crop="published"))
    (crop,) = set(prepared.crops)
    assert (crop.left + crop.side / 2, crop.top + crop.side / 2) == pytest.approx((24, 24), abs=0.5)
    red = (prepared.cells[0, ..., 0] > 150) & (prepared.cells[0, ..., 1] < 128)
    found = np.array([crop.left, crop.top]) + centre(red * 255) * crop.side / 64
    assert np.abs(found - centre((clip[0, ..., 1] < 200) * 255)).max() < 0.5
    alpha = prepared.cells[0, ..., 3]
    assert alpha[0, 0] == 0
    assert alpha[32, 56] == 255  # white background inside the picture stays opaque
    keyed = prepare_video(Video(clip, 10.0), 64, PreprocessOptions(crop="published", background="key"))
    assert keyed.cells[0, 32, 56, 3] == 0
    with pytest.raises(UserError, match="no visible object"):
        prepare_video(Video(np.full((2, 32, 32, 3), 255, np.uint8), 10.0), 16, PreprocessOptions(crop="published"))


def test_a_busy_background_and_an_empty_video_are_errors():
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(UserError, match="not plain"):
        prepare_video(Video(noise, 10.0), 16, PreprocessOptions(background="key"))
    whole = prepare_video(Video(noise, 10.0), 16, PreprocessOptions(background="keep", crop="none"))
    assert (whole.cells[..., 3] == 255).all()
    assert "flat card" in whole.notes[0]
    with pytest.raises(UserError, match="no visible object"):
        prepare_video(Video(np.full((2, 32, 32, 3), 200, np.uint8), 10.0), 16)


def test_frame_rates():
    frames = np.arange(24, dtype=np.uint8)[:, None, None, None].repeat(3, axis=-1)
    half, fps, indices = resample_frames(frames, 24.0, 12.0)
    assert fps == 12.0
    assert len(half) == 12
    assert indices == list(range(1, 24, 2))
    assert len(resample_frames(frames, 24.0, 48.0)[0]) == 48
    assert resample_frames(frames, 24.0, 12.0, 5)[2] == [1, 3, 5, 7, 9]
    assert resample_frames(frames, 24.0, None, 5)[2] == list(range(5))


def test_an_object_out_of_sight_is_said():
    clip = ball(3)
    clip[1] = 255
    prepared = prepare_video(Video(clip, 10.0, "half the file"), 16, PreprocessOptions(crop="frame"))
    assert prepared.notes == ("half the file", "the object is out of sight in 1 of 3 frames")


def test_preview_shows_the_cells(tmp_path):
    path = write_preview(prepare_video(Video(ball(3), 10.0), 32), tmp_path / "preview.png")
    assert path.stat().st_size > 100


@pytest.mark.parametrize(
    ("name", "guidance", "views", "frames"),
    [
        ("scale_sv4d_script", Guidance("spatio-temporal", 1.0, 2.0), 8, 5),
        ("scale_sv4d2_script", Guidance("linear", 1.0, 2.0), 4, 12),
        ("scale_sv4d2_8views_script", Guidance("spatio-temporal", 1.5, 2.5), 8, 5),
        ("scale_sv3d", Guidance("triangle", 1.0, 2.5), 21, 1),
        ("scale_svd_xt", Guidance("linear", 1.5, 3.0), 1, 25),
    ],
)
def test_guidance_scales_of_the_published_scripts(name, guidance, views, frames):
    expected = golden.arrays("scalars")[name]
    torch.testing.assert_close(guidance.scale(views, frames).T.reshape(-1), expected.float())


def test_other_guidance():
    trapezoid = Guidance("trapezoid", 1.0, 3.0).scale(1, 21)[0]
    torch.testing.assert_close(trapezoid[[0, 1, 2, 10, 20]], torch.tensor([1.0, 2.0, 3.0, 3.0, 1.0]))
    assert (Guidance("constant", 1.0, 3.0).scale(2, 3) == 3).all()
    limited = Guidance("constant", interval=(0.5, 10.0))
    assert [limited.active(sigma) for sigma in (0.1, 0.5, 10.0, 11.0)] == [False, True, True, False]
    assert not Guidance("none").active(1.0)


def test_cameras_from_json(tmp_path):
    path = tmp_path / "path.json"
    cameras = make_cameras(CameraOptions(orbit="spiral"), 2, 4)
    path.write_text(json.dumps(cameras.to_json()))
    again = make_cameras(CameraOptions(trajectory=str(path)), 2, 4)
    assert torch.equal(again.azimuth, cameras.azimuth)
    assert torch.equal(again.elevation, cameras.elevation)


def test_default_orbits():
    assert make_cameras(CameraOptions(), 3, 1).azimuth[:, 0].tolist() == [0, 90, 180, 270]
    assert make_cameras(CameraOptions(), 2, 1, (60.0, 120.0), 0.0).azimuth[:, 0].tolist() == [0, 60, 120]
    assert make_cameras(CameraOptions(elevations=(5, 10, 15)), 2, 1).elevation[:, 0].tolist() == [5, 10, 15]
    with pytest.raises(UserError, match="3 are needed"):
        make_cameras(CameraOptions(elevations=(5.0,)), 2, 1)


def test_the_box_of_an_object_ends_behind_its_last_pixel():
    alpha = np.zeros((40, 60), np.uint8)
    alpha[5:20, 7:31] = 255
    assert bounding_box(alpha) == (7, 5, 31, 20)
    assert bounding_box(alpha * 0) is None
