"""Files of points: colours of every range, other people's PLY, and what is no such file."""

import numpy as np
import pytest
import torch

from viewtime.errors import UserError
from viewtime.recon.export.ply import write_gaussian_ply
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.point_files import read_points, read_tracks

POSITIONS = np.arange(12.0).reshape(4, 3) / 10
COLOURS = np.array([[0, 51, 102], [255, 0, 51], [153, 204, 255], [0, 0, 0]], np.uint8)


def ply(path, names, table, kind="float"):
    header = ["ply", "format ascii 1.0", f"element vertex {len(table)}"]
    header += [f"property {'float' if i < 3 else kind} {name}" for i, name in enumerate(names)] + ["end_header"]
    path.write_text("\n".join([*header, *(" ".join(f"{v:g}" for v in row) for row in table)]) + "\n")
    return path


@pytest.mark.parametrize("kind", ["uint8", "int64", "float32"])
def test_colours_of_an_archive(tmp_path, kind):
    colours = COLOURS.astype(kind) if kind != "float32" else (COLOURS / 255).astype(kind)
    np.savez(tmp_path / "p.npz", positions=POSITIONS, colours=colours)
    position, colour = read_points(tmp_path / "p.npz")
    assert position.numpy() == pytest.approx(POSITIONS)
    assert colour.numpy() == pytest.approx(COLOURS / 255, abs=1e-6)


@pytest.mark.parametrize(
    ("names", "kind", "scale"),
    [
        (("red", "green", "blue"), "uchar", 1),
        (("diffuse_red", "diffuse_green", "diffuse_blue"), "uchar", 1),
        (("red", "green", "blue"), "float", 1 / 255),
    ],
)
def test_colours_of_a_ply(tmp_path, names, kind, scale):
    path = ply(tmp_path / "p.ply", ("x", "y", "z", *names), np.concatenate([POSITIONS, COLOURS * scale], axis=1), kind)
    position, colour = read_points(path)
    assert position.numpy() == pytest.approx(POSITIONS)
    assert colour.numpy() == pytest.approx(COLOURS / 255, abs=1e-5)


def test_our_own_gaussian_ply_brings_its_colours_back(tmp_path):
    colour = torch.from_numpy(COLOURS / 255).float()
    means = torch.from_numpy(POSITIONS).float()[None]
    asset = GaussianAsset(
        means, torch.full((4, 1), 0.01), torch.full((4,), 0.5), colour, torch.eye(3).expand(1, 4, 3, 3), 12.0
    )
    position, found = read_points(write_gaussian_ply(asset, 0, tmp_path / "g.ply"))
    torch.testing.assert_close(position, means[0])
    torch.testing.assert_close(found, colour, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"positions": POSITIONS, "colours": COLOURS[:3]}, r"4 points, but colours of shape \[3, 3\]"),
        ({"positions": POSITIONS, "colours": COLOURS.astype(float)}, "reach from 0 to 255"),
        ({"positions": POSITIONS, "colours": COLOURS.astype(int) - 1}, "reach from -1 to 254"),
        ({"positions": POSITIONS.astype(complex)}, "points of complex128"),
        ({"positions": POSITIONS * np.nan}, "finite numbers"),
        ({"positions": POSITIONS * 1e300}, "finite numbers"),
        ({"positions": POSITIONS[:0]}, "finite numbers"),
        ({"points": POSITIONS}, "holds points; needed: positions or tracks"),
        ({"tracks": POSITIONS}, r"tracks of float64 \[4, 3\]"),
        ({"positions": np.array(["a"], object)}, "no NumPy file"),
    ],
)
def test_what_is_no_table_of_points_is_one_line(tmp_path, arrays, words):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(UserError, match=words):
        read_points(tmp_path / "p.npz")


def test_other_formats_and_promises_without_bytes(tmp_path):
    for name, content, words in (
        ("a.splat", b"x" * 32, r"give \.ply, \.npy or \.npz"),
        ("a.ply", b"no ply", "it is no PLY file"),
        ("b.ply", b"ply\nformat ascii 1.0\nelement vertex 2000000000\nend_header\n", "2000000000 elements in"),
        ("c.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float\nend_header\n1\n", "damaged, or without"),
        ("d.ply", b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n", "without vertices"),
        ("a.npz", b"PK\3\4 cut", "no NumPy file"),
        ("a.npy", b"\x93NUMPY\1\0", "no NumPy file"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_points(tmp_path / name)


def test_an_array_larger_than_its_file_is_not_allocated(tmp_path):
    np.save(tmp_path / "p.npy", POSITIONS)
    data = (tmp_path / "p.npy").read_bytes()
    (tmp_path / "p.npy").write_bytes(data.replace(b"(4, 3), }           ", b"(4000000, 3), }     "))
    with pytest.raises(UserError, match=r"is cut off: its array of \(4000000, 3\) needs 96000000 bytes, 96 are there"):
        read_points(tmp_path / "p.npy")
    (tmp_path / "p.npy").write_bytes(data.replace(b"(4, 3), }            ", b"(4000000000000, 3), }"))
    with pytest.raises(UserError, match=r"needs 96000.0 GB of memory"):
        read_points(tmp_path / "p.npy")


def test_tracks_start_where_their_first_frame_is(tmp_path):
    tracks = np.stack([POSITIONS, POSITIONS + 1])
    np.savez(tmp_path / "p.npz", tracks=tracks)
    assert read_points(tmp_path / "p.npz")[0].numpy() == pytest.approx(POSITIONS)
    assert read_tracks(tmp_path / "p.npz", 2).numpy() == pytest.approx(tracks)
    with pytest.raises(UserError, match="tracks over 2 frames; this grid has 3"):
        read_tracks(tmp_path / "p.npz", 3)
