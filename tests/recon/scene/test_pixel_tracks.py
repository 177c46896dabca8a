"""Tracks through views: they follow what moves, and end where it leaves the picture or is hidden."""

import torch
from walls import cameras, scene

from viewtime.recon.scene.pixel_tracks import Flows, PixelTracks, follow, keyframe_tracks


def panned(steps: int, size=(40, 56), by=2.0):
    """[V, 3, H, W]: a smooth pattern that moves right by `by` pixels from picture to picture."""
    H, W = size
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    shown = []
    for view in range(steps):
        u = x - by * view
        shown.append(0.5 + 0.2 * torch.sin(u / 2.3 + y / 5) + 0.2 * torch.sin(y / 2.1 - u / 4.0))
    return torch.stack(shown)[:, None].repeat(1, 3, 1, 1)


def test_a_pan_is_followed_and_ends_at_the_edge():
    pictures = panned(5)
    wanted = torch.zeros(40, 56, dtype=torch.bool)
    wanted[10:30, 5:50] = True
    tracks = follow(Flows(pictures), 0, wanted)
    steps = 2.0 * torch.arange(5.0)[:, None]
    missed = (tracks.places - tracks.places[:1])[..., 0] - steps
    inside = (tracks.places[0, :, 0] + steps) < 50
    assert float(missed[inside].abs().quantile(0.9)) < 0.3
    assert tracks.visible[inside].float().mean() > 0.9
    assert not tracks.visible[4][tracks.places[0, :, 0] > 49].any()  # eight pixels further there is no picture
    torch.testing.assert_close(tracks.colours[0], pictures[0, :, 10, 5])


def test_later_keyframes_add_what_the_earlier_ones_do_not_reach():
    pictures = panned(5, by=4.0)
    tracks = keyframe_tracks(Flows(pictures), torch.ones(5, 40, 56, dtype=torch.bool))
    every = 40 * 56
    assert tracks.places.shape[1] > every + 2 * 40 * 5  # eight pixels at each side are new in the first and last view
    assert tracks.places.shape[1] < 2 * every
    covered = torch.zeros(40, 56, dtype=torch.bool)
    x, y = tracks.places[4][tracks.visible[4]].long().unbind(-1)
    covered[y.clamp(0, 39), x.clamp(0, 55)] = True
    assert covered.float().mean() > 0.85
    one = PixelTracks.joined([tracks[torch.arange(3)], tracks[torch.arange(3)]])
    assert one.visible.shape == (5, 6)


def test_what_a_ball_hides_is_not_seen_there():
    views = cameras(5, 1)
    grid, depth = scene(views, 48, 72)
    wanted = torch.ones(48, 72, dtype=torch.bool)
    tracks = follow(Flows(grid.frames[:, 0]), 2, wanted)
    distance = depth[2, 0].flatten()
    pixel = tracks.places[2]
    focal = views.intrinsics(48, 72)[0, 0, 0, 0]
    away_from_centre = (pixel - torch.tensor([36.0, 24.0])) / focal
    turned = torch.cat([away_from_centre, torch.ones(len(pixel), 1)], dim=1)
    world = (turned * distance[:, None]) @ views.matrices[2, 0, :3, :3].T + views.matrices[2, 0, :3, 3]
    true, away = views.project(world, 48, 72)
    missed = (tracks.places - true[:, 0]).norm(dim=-1)
    assert float(missed[tracks.visible].quantile(0.5)) < 0.2
    assert float(missed[tracks.visible].quantile(0.75)) < 0.5
    x, y = true[0, 0].long().unbind(-1)
    inside = (x >= 0) & (x < 72) & (y >= 0) & (y < 48)
    nearer = depth[0, 0][y.clamp(0, 47), x.clamp(0, 71)] < away[0, 0] - 0.3
    assert nearer.sum() > 20
    shown = tracks.visible[0].float()
    assert shown[nearer & inside].mean() < 0.5 < shown[~nearer & inside].mean() - 0.2
