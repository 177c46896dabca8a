"""Other people's cameras: nerfstudio's and D-NeRF's files, lenses, times that differ by rounding."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from viewtime.cameras import opengl_from_opencv, regular_orbit
from viewtime.dnerf import open_grid, same_instants
from viewtime.errors import UserError
from viewtime.images import write_image
from viewtime.lens import Lens

SIZE, FOCAL = 64, 100.0
LENS = {"fl_x": 90.0, "fl_y": 110.0, "cx": 29.0, "cy": 35.0, "k1": 0.1, "k2": -0.05, "p1": 0.01, "p2": -0.02}
POINT = torch.tensor([[0.11, -0.07, 0.13]])


def dot(x: float, y: float) -> np.ndarray:
    """RGBA with a soft dot at a place in pixels."""
    columns, rows = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    alpha = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    return np.concatenate([np.full((SIZE, SIZE, 3), 0.25), alpha[..., None]], axis=-1)


def centre(alpha: np.ndarray) -> tuple[float, float]:
    columns, rows = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    return float((columns * alpha).sum() / alpha.sum()), float((rows * alpha).sum() / alpha.sum())


def seen_through(lens: dict, camera: torch.Tensor) -> tuple[float, float]:
    """Where OpenCV's model puts POINT, written down from its documentation."""
    x, y, z = (torch.linalg.inv(camera)[:3] @ torch.cat([POINT[0], torch.ones(1)])).tolist()
    x, y = x / z, y / z
    r2 = x * x + y * y
    radial = 1 + lens["k1"] * r2 + lens["k2"] * r2 * r2
    across = x * radial + 2 * lens["p1"] * x * y + lens["p2"] * (r2 + 2 * x * x)
    down = y * radial + lens["p1"] * (r2 + 2 * y * y) + 2 * lens["p2"] * x * y
    return lens["fl_x"] * across + lens["cx"], lens["fl_y"] * down + lens["cy"]


def write_scene(folder, lens, name="transforms.json", times=None, **changes):
    cameras = regular_orbit(views=3, frames=1, distance=2.0)
    matrices = cameras.camera_to_world()[:, 0]
    frames = []
    for view, matrix in enumerate(matrices):
        write_image(folder / "images" / f"frame_{view + 1:05d}.png", dot(*seen_through(lens, matrix)))
        cell = {
            "file_path": f"images/frame_{view + 1:05d}.png",
            "transform_matrix": opengl_from_opencv(matrix).tolist(),
        }
        frames.append(cell if times is None else {**cell, "time": times[view]})
    record = {"w": SIZE, "h": SIZE, "camera_model": "OPENCV", **lens, "frames": frames, "applied_scale": 1.0, **changes}
    (folder / name).write_text(json.dumps(record))
    return cameras


def test_nerfstudios_file_and_its_lens(tmp_path):
    """The dot lies where a pin-hole in the middle of the picture sees the point, whatever the lens was."""
    cameras = write_scene(tmp_path, LENS)
    grid = open_grid(tmp_path)
    assert grid.shape == (3, 1, 4, SIZE, SIZE)
    assert grid.orbit.fov_y == pytest.approx(2 * math.degrees(math.atan(SIZE / 2 / LENS["fl_y"])))
    torch.testing.assert_close(grid.orbit.azimuth % 360, cameras.azimuth, rtol=0, atol=1e-3)
    wanted, _ = grid.orbit.project(POINT, SIZE, SIZE)
    for view in range(3):
        found = centre(grid.frames[view, 0, 3].numpy())
        assert found == pytest.approx(tuple(wanted[view, 0, 0].tolist()), abs=0.15)
        assert seen_through(LENS, cameras.camera_to_world()[view, 0]) != pytest.approx(found, abs=1.0)
    assert grid.frames[:, :, :3][grid.frames[:, :, 3:].expand(-1, -1, 3, -1, -1) > 0.3].mean() == pytest.approx(
        0.25, abs=0.01
    )


def test_a_frames_own_intrinsics_go_first_and_scaled_pictures_scale_them(tmp_path):
    plain = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 32.0, "cy": 32.0, "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    write_scene(tmp_path, plain)
    record = json.loads((tmp_path / "transforms.json").read_text())
    for name in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        record[name] *= 2  # the file is of pictures twice as large
    (tmp_path / "transforms.json").write_text(json.dumps(record))
    grid = open_grid(tmp_path)
    assert grid.orbit.fov_y == pytest.approx(2 * math.degrees(math.atan(SIZE / 2 / FOCAL)))
    record["frames"][1]["cx"] = 2 * 32.0 - 10
    (tmp_path / "transforms.json").write_text(json.dumps(record))
    moved = open_grid(tmp_path)
    assert torch.equal(moved.frames[0], grid.frames[0])
    assert centre(moved.frames[1, 0, 3].numpy())[0] == pytest.approx(
        centre(grid.frames[1, 0, 3].numpy())[0] + 5, abs=0.1
    )


def test_a_file_that_names_no_rate_is_taken_for_twelve_pictures_a_second(tmp_path):
    write_scene(tmp_path, LENS)
    assert open_grid(tmp_path).fps == 12
    write_scene(tmp_path, LENS, fps=24)
    assert open_grid(tmp_path).fps == 24


def test_a_pin_hole_leaves_pictures_alone():
    picture = np.random.default_rng(0).integers(0, 255, (8, 10, 3), dtype=np.uint8)
    assert Lens(10, 8, 20.0, 20.0, 5.0, 4.0).straighten(picture, 20.0) is picture
    shifted = Lens(10, 8, 20.0, 20.0, 6.0, 4.0).straighten(picture, 20.0)
    assert np.array_equal(shifted[:, :-1], picture[:, 1:])
    assert np.array_equal(shifted[:, -1], picture[:, -1])


@pytest.mark.parametrize(
    ("times", "instants"),
    [
        ([0, 0.3333, 1 / 3, 1, 0.0, 0.66667, 2 / 3, 1.0], [0, 1, 1, 3, 0, 2, 2, 3]),
        ([0.0, 0.5, 1.0], [0, 1, 2]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
        ([0.0, 1e-9, 1.0, 1.0 + 1e-9], [0, 0, 1, 1]),
        ([0.0, 0.01, 0.5, 1.0], [0, 1, 2, 3]),  # a hundredth of the clip is a step, not rounding
    ],
)
def test_times_that_differ_by_rounding_are_one_instant(times, instants):
    assert same_instants(np.array(times)).tolist() == instants


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE.*undistort"),
        ({"k4": 0.1}, "k4 0.1.*undistort"),
        ({"fl_x": None, "fl_y": None}, "nobody knows the field of view"),
        ({"frames": []}, "lists no frame"),
        ({"frames": 3}, "damaged: Expected 'array', got 'int' - at 'frames'"),
        ({"frames": [{"file_path": 1, "transform_matrix": []}]}, r"at 'frames\[0\].file_path'"),
        ({"frames": [{"file_path": "a", "transform_matrix": [[1]]}]}, "no such image|no table of 4 × 4"),
        ({"camera_angle_x": "wide"}, "Expected 'float.*camera_angle_x"),
        ({"camera_angle_x": -0.6}, "camera_angle_x"),
        ({"fps": 0}, "fps"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, changes, words):
    write_scene(tmp_path, LENS, **changes)
    with pytest.raises(UserError, match=words):
        open_grid(tmp_path)


def test_mixed_alpha_sizes_and_times_are_one_line(tmp_path):
    write_scene(tmp_path, LENS, times=[0.0, None, 1.0])
    with pytest.raises(UserError, match="1 of 3 frames have no time"):
        open_grid(tmp_path)
    write_scene(tmp_path, LENS, times=[0.0, 0.0, 1.0])
    with pytest.raises(UserError, match="1 to 2 views per instant"):
        open_grid(tmp_path)
    write_scene(tmp_path, LENS)
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "images" / "frame_00002.png")
    with pytest.raises(
        UserError, match=r"frame_00002.png is 64 × 64 px without alpha.*frame_00001.png is 64 × 64 px with"
    ):
        open_grid(tmp_path)
    Image.new("RGBA", (SIZE, 32)).save(tmp_path / "images" / "frame_00002.png")
    with pytest.raises(UserError, match=r"frame_00002.png is 64 × 32 px"):
        open_grid(tmp_path)


@pytest.mark.parametrize(
    ("told", "focal"),
    [
        ({"fl_x": 80.0}, 80.0),
        ({"fl_x": 80.0, "fl_y": 70.0}, 70.0),
        ({"camera_angle_x": 2 * math.atan(0.4)}, SIZE / 2 / 0.4),
        ({"camera_angle_x": 1.0, "fl_x": 80.0}, 80.0),
        ({"camera_angle_x": 2 * math.atan(0.4), "fl_y": 70.0}, 70.0),
        ({"fl_x": 40.0, "w": SIZE / 2, "h": SIZE / 4}, 80.0),  # a focal length in pixels of a picture half as wide
        ({"fl_x": 80.0, "fl_y": 35.0, "w": SIZE, "h": SIZE / 2}, 70.0),
    ],
)
def test_a_field_of_view_in_every_form_that_files_have(tmp_path, told, focal):
    write_scene(tmp_path, LENS)
    record = json.loads((tmp_path / "transforms.json").read_text())
    record = {key: value for key, value in record.items() if key not in (*LENS, "w", "h")}
    (tmp_path / "transforms.json").write_text(json.dumps({**record, **told}))
    assert open_grid(tmp_path).orbit.fov_y == pytest.approx(2 * math.degrees(math.atan(SIZE / 2 / focal)))
