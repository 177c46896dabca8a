"""Lifting: features of the known views put into a coarse volume, and the volume rendered to every view.

The geometry that attention would have to learn is written down: a point of the volume lies where the cameras say.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.mini.rays import SLOPE, camera_axes, ray_points, ray_weights, sample_volume, voxel_centres


class VolumeBlock(nn.Module):
    """SiLU and 3×3×3 convolution, twice, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = (nn.Conv3d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, D, D, D] -> same."""
        return x + self.conv_2(F.silu(self.conv_1(F.silu(x))))


class VolumeNet(nn.Module):
    """A small U-net in space: what is where in depth follows from the whole object's shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        coarse = 3 * channels
        self.enter, self.leave = VolumeBlock(channels), VolumeBlock(channels)
        self.down = nn.Conv3d(channels, coarse, 2, stride=2)
        self.coarse = nn.Sequential(VolumeBlock(coarse), VolumeBlock(coarse))
        self.up = nn.ConvTranspose3d(coarse, channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, D, D, D], D even -> same."""
        x = self.enter(x)
        return self.leave(x + self.up(self.coarse(self.down(x))))


class Lift(nn.Module):
    """Picture features of the known views -> what each view would see of them; starts at zero.

    Args:
        features: channels of the picture features.
        channels: of the volume.
        side: voxels along an edge, and samples along a ray; the volume spans [-1, 1]³.
    """

    def __init__(self, features: int, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.enter = nn.Conv2d(features, channels, 1)
        self.place = nn.Conv3d(channels + 3, channels, 1)
        self.blocks = VolumeNet(channels)
        self.shade = nn.Conv3d(channels, channels + 1, 1)
        self.leave = nn.Conv2d(channels + 2, features, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    @torch.compiler.disable  # compiled grid sampling is slower on the CPU
    def forward(self, features: Tensor, known: Tensor, elevation: Tensor, azimuth: Tensor) -> Tensor:
        """features [B, V, F, C, side, side]; known, elevation, azimuth (degrees) [B, V, F] -> like features."""
        axes = camera_axes(elevation.float(), azimuth.float())
        return self.render(self.fill(features, known, axes), axes)

    def fill(self, features: Tensor, known: Tensor, axes: Tensor) -> Tensor:
        """The volume of each instant, the mean over its known views: [(B F), channels, D, D, D]."""
        B, V = known.shape[:2]
        points = torch.einsum("bvfij,zyxj->bvfzyxi", axes, voxel_centres(self.side, self.side, axes.device))
        seen = points[..., :2] / (1 + SLOPE * points[..., 2:])
        pictures = self.enter(rearrange(features, "b v f c h w -> (b v f) c h w"))
        seen = rearrange(seen, "b v f z y x i -> (b v f) (z y) x i")
        lifted = F.grid_sample(pictures.float(), seen, align_corners=False)
        lifted = rearrange(lifted, "n c (z y) x -> n c z y x", z=self.side)
        depth = rearrange(points, "b v f z y x i -> (b v f) i z y x")
        lifted = self.place(torch.cat([lifted, depth], dim=1))
        lifted = rearrange(lifted, "(b v f) c z y x -> b v f c z y x", b=B, v=V)
        weight = known.to(lifted) / known.sum(dim=1, keepdim=True).clamp_min(1)
        return self.blocks(torch.einsum("bvf,bvfczyx->bfczyx", weight, lifted).flatten(0, 1))

    def render(self, volume: Tensor, axes: Tensor) -> Tensor:
        """Composited features, opacity and depth of the volume in every view: [B, V, F, C, side, side]."""
        B, V, F_ = axes.shape[:3]
        shaded = self.shade(volume).float()
        # Outside the volume sampling gives zero: no density.
        scene = torch.cat([shaded[:, :-1], F.softplus(shaded[:, -1:] - 2.0)], dim=1)
        rays = ray_points(self.side, self.side, axes.device)
        points = torch.einsum("bvfij,zyxi->bvfzyxj", axes, rays)
        points = rearrange(points, "b v f z y x j -> (b f) (v z) y x j")
        samples = sample_volume(scene, points)
        samples = rearrange(samples, "n c (v z) y x -> n v z c y x", v=V)
        weight = ray_weights(samples[:, :, :, -1:], dim=2)
        picture = (weight * samples[:, :, :, :-1]).sum(dim=2)
        opacity = weight.sum(dim=2)
        depth = (weight * rays[:, None, ..., 2]).sum(dim=2)
        picture = torch.cat([picture, opacity, depth], dim=2)
        picture = self.leave(rearrange(picture, "n v c y x -> (n v) c y x"))
        return rearrange(picture, "(b f v) c y x -> b v f c y x", b=B, f=F_)
