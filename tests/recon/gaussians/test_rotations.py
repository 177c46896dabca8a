"""Rotations by few operations, against scipy's."""

import torch
from scipy.spatial.transform import Rotation

from viewtime.recon.gaussians.canonical import Gaussians, rotation_from_quaternion
from viewtime.recon.gaussians.motion import rotation_from_axis_angle


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_quaternions_of_any_length():
    quaternion = draw(50, 4)
    right = torch.from_numpy(Rotation.from_quat(quaternion[:, [1, 2, 3, 0]].numpy()).as_matrix())
    torch.testing.assert_close(rotation_from_quaternion(quaternion), right, atol=1e-12, rtol=0)


def test_axis_and_angle_down_to_none():
    vector = draw(2, 25, 3) * torch.logspace(-6, 0.5, 25, dtype=torch.float64)[:, None]
    right = Rotation.from_rotvec(vector.flatten(0, 1).numpy()).as_matrix().reshape(2, 25, 3, 3)
    torch.testing.assert_close(rotation_from_axis_angle(vector), torch.from_numpy(right), atol=1e-11, rtol=0)
    assert torch.autograd.gradcheck(rotation_from_axis_angle, vector[:, 12:].clone().requires_grad_())
    still = torch.zeros(1, 3, requires_grad=True)
    rotation_from_axis_angle(still).sum().backward()
    assert torch.isfinite(still.grad).all()


def test_covariance_is_the_square_of_the_scaled_axes():
    gaussians = Gaussians(draw(5, 3).float(), torch.full((5,), 0.2), draw(5, 3).float(), isotropic=False)
    gaussians.quaternion.data, gaussians.log_scale.data = draw(5, 4).float(), draw(5, 3).float()
    axes = rotation_from_quaternion(gaussians.quaternion) * gaussians.log_scale.exp()[:, None]
    torch.testing.assert_close(gaussians.covariance(), axes @ axes.transpose(1, 2))
