"""Points in frame coordinates: poses from them, Eq. 11's Δp per view, and files of other programs' trackers."""

import numpy as np
import pytest
import torch
from walls import cameras

from viewtime.errors import UserError
from viewtime.recon.scene.frame_points import FramePoints, canonical_points, poses_of, read_frame_points
from viewtime.recon.scene.lift import in_frames


def cloud(count=200, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=g) * torch.tensor([1.6, 1.2, 1.0]) - torch.tensor([0.8, 0.2, 0.5])


def test_poses_come_from_points_that_move_rigidly_though_a_quarter_does_not():
    views = cameras(5, 1)
    truth = views.camera_to_world()[:, 0].double()
    world = cloud()
    places = in_frames(world, torch.linalg.inv(truth).float())
    places[:, :50] += 0.3 * torch.randn(5, 50, 3, generator=torch.Generator().manual_seed(2))
    visible = torch.ones(5, 200, dtype=torch.bool)
    visible[0, 100:] = False
    found = poses_of(FramePoints(places, visible, torch.zeros(200, 3)))
    torch.testing.assert_close(found, torch.linalg.inv(truth[2]) @ truth, atol=2e-3, rtol=0)


def test_views_without_common_points_are_named():
    visible = torch.zeros(3, 20, dtype=torch.bool)
    visible[0, :10], visible[1], visible[2, :3] = True, True, True
    with pytest.raises(UserError, match="views 1 and 2 share 3 tracks"):
        poses_of(FramePoints(torch.rand(3, 20, 3), visible, torch.zeros(20, 3)))


@pytest.mark.parametrize("canonical", ["agreed", "central"])
def test_delta_p_of_a_view_carries_canonical_points_to_where_it_sees_them(canonical):
    """Eq. 11 at a frozen instant: p + Δp_v is the tracked place, also with identity cameras, the paper's form."""
    world, V = cloud(2000), 4
    bend = 0.05 * torch.stack([torch.sin(3 * world + k) for k in range(V)])  # smooth in space, another in every view
    for matrices in (torch.eye(4).repeat(V, 1, 1), cameras(V, 1).camera_to_world()[:, 0]):
        places = torch.stack([in_frames(world + bend[v], torch.linalg.inv(matrices[v])[None])[0] for v in range(V)])
        visible = torch.ones(V, len(world), dtype=torch.bool)
        visible[1, ::5] = False
        position, offset = canonical_points(FramePoints(places, visible, torch.zeros_like(world)), matrices, canonical)
        mean = (bend * visible[..., None]).sum(0) / visible.sum(0)[:, None]
        told = world + (mean if canonical == "agreed" else bend[V // 2])
        # Of "agreed" the weights by distance are left; they change little where no view is far off the others.
        torch.testing.assert_close(position, told, atol=6e-3 if canonical == "agreed" else 1e-5, rtol=0)
        missed = (position + offset - (world + bend)).norm(dim=-1)
        assert float(missed.median()) < 0.01  # medians of neighbours: the bend varies a little between them
        assert float(missed[1, ::5].median()) < 0.03  # hidden there: what the neighbours do
        assert float((position + offset[1] * 0 - (world + bend[1])).norm(dim=-1).median()) > 0.03  # Δp is needed


def test_a_single_wrong_track_is_outvoted_by_its_neighbours():
    world = cloud(400)
    places = world.expand(3, -1, -1).clone()
    places[0, 7] += 1.0
    points = FramePoints(places, torch.ones(3, 400, dtype=torch.bool), torch.zeros(400, 3))
    _, offset = canonical_points(points, torch.eye(4).repeat(3, 1, 1), "agreed")
    assert float(offset[0].norm(dim=-1).max()) < 0.05


def written(folder, **changes):
    arrays = {
        "points": np.ones((3, 6, 3), np.float32), "visible": np.ones((3, 6), bool),
        "colours": np.full((6, 3), 128, np.uint8), **changes,
    }  # fmt: skip
    np.savez(folder / "tracks.npz", **{name: value for name, value in arrays.items() if value is not None})
    return folder / "tracks.npz"


def test_a_file_of_tracks_is_read_without_points_behind_the_cameras(tmp_path):
    points = np.ones((3, 6, 3), np.float32)
    points[:, 0, 2], points[1, 1] = -1, np.nan
    visible = np.ones((3, 6), bool)
    visible[1, 1] = False
    read = read_frame_points(written(tmp_path, points=points, visible=visible), 3)
    assert read.places.shape == (3, 5, 3)
    assert read.visible.sum(0).tolist() == [2, 3, 3, 3, 3]
    assert float(read.colours[0, 0]) == pytest.approx(128 / 255)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"visible": None}, "lacks visible"),
        ({"points": np.ones((2, 6, 3))}, r"points \[2, 6, 3\].*needed: \[3, N, 3\].*3 views"),
        ({"points": np.full((3, 6, 3), np.inf)}, "other things than finite numbers"),
        ({"colours": np.full((6, 3), 2.0)}, "colours from 2 to 2; needed: 0 to 1"),
        ({"colours": np.array([["a"] * 3] * 6)}, "other things than finite"),
    ],
)
def test_a_file_of_other_tracks_is_refused(tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        read_frame_points(written(tmp_path, **changes), 3)


def test_no_file_of_tracks(tmp_path):
    with pytest.raises(UserError, match="no such file of tracks"):
        read_frame_points(tmp_path / "none.npz", 3)
