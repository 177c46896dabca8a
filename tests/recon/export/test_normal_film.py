"""The film of normals: the colours of planes whose normals are known."""

import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.recon.export.films import normal_colour
from viewtime.recon.render.splats import Viewpoints


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8), (0.0, -0.6, 0.8), (0.48, 0.36, 0.8)])
def test_a_planes_colour_is_its_normal(normal):
    """Axes x right, y up, z towards the camera; the depth of a plane through (0, 0, 2) along each pixel's ray."""
    H, W = 12, 16
    cameras = regular_orbit(1, 1)
    views = Viewpoints.of(cameras, H, W)
    right, up, back = normal
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    focal = float(cameras.intrinsics(H, W).flatten(0, -3)[0, 0, 0])
    u, v = (x - W / 2) / focal, (y - H / 2) / focal
    depth = 2 * back / (back - right * u + up * v)
    colour = normal_colour(depth[None, None], views)[0, :, 1:-1, 1:-1]
    expected = 0.5 + 0.5 * torch.tensor(normal)[:, None, None].expand_as(colour)
    torch.testing.assert_close(colour, expected, atol=1e-4, rtol=0)
