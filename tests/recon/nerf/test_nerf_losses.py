"""The geometry losses against surfaces whose normals and slopes are known."""

import math

import pytest
import torch
from scenes import training_grid

from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.nerf.losses import bilateral_normal, depth_normals, smooth_depth, sobel
from viewtime.recon.nerf.rays import cast


def patch_rays(side=9, focal=60.0):
    y, x = torch.meshgrid(torch.arange(side) - side // 2, torch.arange(side) - side // 2, indexing="ij")
    ray = torch.stack([x / focal, y / focal, torch.ones_like(x)])[None].float()
    return ray / ray.norm(dim=1, keepdim=True)


def test_normals_of_a_tilted_plane():
    """Plane z = 2 + 0.5 x in camera axes: normal towards the camera (0.5, 0, -1) / √1.25, with y up and z back."""
    ray = patch_rays()
    plane = 2.0 / (ray[:, 2:] - 0.5 * ray[:, :1])
    normal = depth_normals(plane, ray)
    expected = torch.tensor([0.5, 0.0, 1.0]) / math.sqrt(1.25)
    torch.testing.assert_close(normal[0, :, 4, 4], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(normal[0, :, 2, 6], expected, atol=1e-5, rtol=0)


def test_depth_is_smooth_by_its_slope_and_only_inside():
    depth = (0.1 * torch.arange(6.0)).expand(1, 1, 5, 6).clone()
    solid = torch.ones(1, 1, 5, 6, dtype=torch.bool)
    assert float(smooth_depth(depth, solid)) == pytest.approx(25 * 0.01 / 30)
    solid[..., 3] = False
    depth[..., 3] = 50.0
    assert float(smooth_depth(depth, solid)) == pytest.approx(15 * 0.01 / 30)


def test_bilateral_loss_forgives_edges_of_the_picture():
    normal = torch.zeros(1, 3, 8, 8)
    normal[:, 2, :, :4], normal[:, 0, :, 4:] = 1.0, 1.0
    solid = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    plain = torch.full((1, 3, 8, 8), 0.5)
    edge = plain.clone()
    edge[..., 4:] = 1.0
    flat, forgiven = (float(bilateral_normal(normal, image, solid)) for image in (plain, edge))
    assert flat == pytest.approx(8 / 64 * (math.sqrt(3) - 1), rel=1e-5)  # one column bends
    slope = float(sobel(edge)[0, 0, 4, 3])
    assert slope == pytest.approx(0.5)
    assert forgiven == pytest.approx(flat * math.exp(-3 * slope), rel=1e-5)


def test_gradients_of_the_depth_losses():
    ray = patch_rays(5).double()
    depth = (2 + 0.1 * torch.rand(1, 1, 5, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: depth_normals(d, ray).square().sum(dim=1)[0, 0] * d[0, 0], [depth])
    assert torch.autograd.gradcheck(lambda d: depth_normals(d, ray)[:, :2], [depth])


def test_a_ray_of_a_training_cell_meets_the_object():
    targets = make_targets(training_grid(2, 1, 32))
    rays = cast(targets.views, torch.tensor([0]), torch.tensor([[16.0, 16.0]]), torch.tensor([0]))
    closest = rays.origins + 2.0 * rays.directions
    assert float(closest.norm()) < 1e-4
