"""From 3D Gaussians to 2D ones on the image plane: the part that all renderers share, differentiable in torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.errors import UserError

SCREEN_BLUR = 0.1  # square pixels added to every 2D covariance, as in Mip-Splatting
MINIMUM_ALPHA = 1.0 / 255.0
MAXIMUM_ALPHA = 0.99
MINIMUM_TRANSMITTANCE = 1e-4  # a pixel that lets less light through is closed to the Gaussians behind (3DGS)
NEAR = 0.05  # world units


@dataclass(frozen=True)
class Viewpoints:
    """Pin-hole cameras of B images.

    Attributes:
        world_to_camera: [B, 4, 4], OpenCV axes.
        focal: [B] pixels. centre: [B, 2] principal point (x, y) in pixels; both may carry gradients.
        height, width: image size in pixels.
    """

    world_to_camera: Tensor
    focal: Tensor
    centre: Tensor
    height: int
    width: int

    @staticmethod
    def of(cameras: Cameras, height: int, width: int) -> Viewpoints:
        """All cells of an orbit, view-major: B = V · F."""
        intrinsics = rearrange(cameras.intrinsics(height, width), "v f i j -> (v f) i j")
        matrices = rearrange(cameras.world_to_camera(), "v f i j -> (v f) i j")
        return Viewpoints(matrices, intrinsics[:, 0, 0], intrinsics[:, :2, 2], height, width)

    def __getitem__(self, index: Tensor | slice) -> Viewpoints:
        """Some of the B images."""
        return Viewpoints(self.world_to_camera[index], self.focal[index], self.centre[index], self.height, self.width)

    def __len__(self) -> int:
        return len(self.focal)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Viewpoints:
        """The same cameras on another device."""
        world_to_camera, focal, centre = (
            tensor.to(device, dtype) for tensor in (self.world_to_camera, self.focal, self.centre)
        )
        return Viewpoints(world_to_camera, focal, centre, self.height, self.width)


@dataclass(frozen=True)
class Splats:
    """2D Gaussians of B images: mean [B, N, 2] pixels, conic [B, N, 3] (a, b, c of a·dx² + 2b·dx·dy + c·dy²),
    opacity [B, N], depth [B, N], feature [B, N, C]."""

    mean: Tensor
    conic: Tensor
    opacity: Tensor
    depth: Tensor
    feature: Tensor


def rows_of(
    means: Tensor, covariance: Tensor, opacity: Tensor, feature: Tensor, linear: Tensor | None, images: int
) -> None:
    """Check that N Gaussians fit each other, and that each input has 1 row, or as many as divide the images.

    With R rows, images b·B/R to (b+1)·B/R - 1 show row b: one for all, one for each run of views of the same frame, or
    one for each image.

    Raises:
        UserError: they do not.
    """
    N = means.shape[1]
    square = covariance.shape[1:] in ((N, 1), (N, 3, 3)) and (linear is None or linear.shape[1:] == (N, 3, 3))
    fits = means.shape[1:] == (N, 3) and opacity.shape[1:] == (N,) and feature.shape[1:-1] == (N,) and square
    shapes = [tuple(value.shape) for value in (means, covariance, opacity, feature, linear) if value is not None]
    if not fits or any(images % max(1, shape[0]) or not shape[0] for shape in shapes):
        raise UserError(
            f"means, covariance, opacity, feature and linear {shapes} do not fit each other and {images} images"
        )


def spread(rows: Tensor, images: int) -> Tensor:
    """[R, ...] -> [B, ...], each row for its run of images."""
    if len(rows) == 1:
        return rows.expand(images, *rows.shape[1:])
    return rows if len(rows) == images else rows.repeat_interleave(images // len(rows), dim=0)


def posed(covariance: Tensor, linear: Tensor | None, images: int) -> Tensor:
    """[B, N, 1], or [B, N, 3, 3] after `linear`."""
    covariance = spread(covariance, images)
    if linear is None:
        return covariance
    linear = spread(linear, images)
    return linear @ covariance @ linear.transpose(-1, -2)


def project(
    means: Tensor,
    covariance: Tensor,
    opacity: Tensor,
    feature: Tensor,
    views: Viewpoints,
    screen_blur: float = SCREEN_BLUR,
    linear: Tensor | None = None,
) -> Splats:
    """Local affine projection (EWA splatting, as 3D Gaussian Splatting), with opacity kept over the screen blur.

    Args:
        means: [R, N, 3] world positions; rows as `rows_of` counts them.
        covariance: variances [R, N, 1] of isotropic Gaussians, or matrices [R, N, 3, 3].
        opacity: [R, N]. feature: [R, N, C].
        linear: [R, N, 3, 3], what is done to each matrix: linear · covariance · linear^T.

    Raises:
        UserError: the tensors do not have these shapes.
    """
    B = len(views)
    rows_of(means, covariance, opacity, feature, linear, B)
    means, opacity, feature = (spread(value, B) for value in (means, opacity, feature))
    covariance = posed(covariance, linear, B)
    rotation, translation = views.world_to_camera[:, :3, :3], views.world_to_camera[:, :3, 3]
    x, y, z = torch.baddbmm(translation[:, None], means, rotation.transpose(1, 2)).unbind(-1)
    depth = z.clamp(min=NEAR)
    u, v = x / depth, y / depth
    focal = views.focal[:, None]
    mean = torch.stack([focal * u + views.centre[:, :1], focal * v + views.centre[:, 1:]], dim=-1)
    if covariance.shape[-1] == 1:
        variance = covariance[..., 0] * (focal / depth) ** 2
        xx, xy, yy = variance * (1 + u * u), variance * (u * v), variance * (1 + v * v)
    else:
        zero = torch.zeros_like(u)
        jacobian = torch.stack([torch.stack([1 + zero, zero, -u], -1), torch.stack([zero, 1 + zero, -v], -1)], -2)
        jacobian = jacobian * (focal / depth)[..., None, None]
        to_image = einsum(jacobian, rotation, "b n i j, b j k -> b n i k")
        screen = to_image @ covariance @ to_image.transpose(-1, -2)
        xx, xy, yy = screen[..., 0, 0], screen[..., 0, 1], screen[..., 1, 1]
    sharp = (xx * yy - xy * xy).clamp(min=1e-12)
    xx, yy = xx + screen_blur, yy + screen_blur
    determinant = xx * yy - xy * xy
    conic = torch.stack([yy, -xy, xx], dim=-1) / determinant[..., None]
    return Splats(
        mean,
        conic,
        opacity * (sharp / determinant).sqrt(),
        torch.where(z > NEAR, z, torch.zeros_like(z)),
        feature,
    )
