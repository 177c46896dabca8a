"""The losses of SV4D, A.5, on rays and on patches of rays."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as nnF
from einops import rearrange
from torch import Tensor

from viewtime.configs.schema.reconstruct_nerf import NerfOptions
from viewtime.errors import UserError
from viewtime.images import read_image
from viewtime.recon.fitting.targets import Targets
from viewtime.recon.render.splats import Viewpoints

from .rendering import RayPicture

ROBUST_SCALE = 0.1
SOLID = 0.5  # opacity from which a pixel has a depth and a normal
LPIPS_SMALLEST = 32  # pixels; its network halves the picture several times


@dataclass(frozen=True)
class Batch:
    """Rays of one step and what they should show.

    Attributes:
        cells: int64 [B], numbers of the cells (view-major). which: int64 [R], the cell in `cells` of each ray.
        place: [R, 2] pixels of the full size. target: [R, 4], RGB on white and mask. slot: int64 [B].
        patches, side: the last patches · side² rays are squares. spacing: full-size pixels between their rays.
    """

    cells: Tensor
    which: Tensor
    place: Tensor
    target: Tensor
    slot: Tensor
    patches: int
    side: int
    spacing: float

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        names = ("cells", "which", "place", "target", "slot")
        return dataclasses.replace(self, **{name: getattr(self, name).to(device) for name in names})

    def squares(self, values: Tensor) -> Tensor:
        """Per-ray values [R, C] -> those of the patches [P, C, side, side]."""
        count = self.patches * self.side**2
        return rearrange(values[-count:], "(p a b) c -> p c a b", p=self.patches, a=self.side)


def smooth_depth(depth: Tensor, solid: Tensor) -> Tensor:
    """RegNeRF's loss on [P, 1, h, w], between neighbours that are both `solid`; a mean."""
    total = depth.new_zeros(())
    for axis in (2, 3):
        both = solid.narrow(axis, 1, solid.shape[axis] - 1) & solid.narrow(axis, 0, solid.shape[axis] - 1)
        total = total + (depth.diff(dim=axis).square() * both).sum() / solid.numel()
    return total


def sobel(image: Tensor) -> Tensor:
    """Length of the gradient of [P, C, h, w] by Sobel's filter, largest over the channels: [P, 1, h, w]."""
    kernel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]], device=image.device) / 4
    flat = nnF.pad(rearrange(image, "p c h w -> (p c) 1 h w"), (1, 1, 1, 1), mode="replicate")
    both = nnF.conv2d(flat, torch.stack([kernel, kernel.T])[:, None])
    return rearrange(both.norm(dim=1), "(p c) h w -> p c h w", p=len(image)).amax(dim=1, keepdim=True)


def bilateral_normal(normal: Tensor, image: Tensor, solid: Tensor) -> Tensor:
    """e^(−3 |∇I|) · (√(1 + |∇n|²) − 1) over solid pixels [P, 1, h, w] whose neighbours are solid too; a mean."""
    inner = -nnF.max_pool2d(-solid.float(), 3, stride=1, padding=1) > 0.5
    padded = nnF.pad(normal, (0, 1, 0, 1), mode="replicate")
    along_x, along_y = padded[..., :-1, 1:] - normal, padded[..., 1:, :-1] - normal
    slope = (along_x.square() + along_y.square()).sum(dim=1, keepdim=True)
    value = torch.exp(-3 * sobel(image)) * ((1 + slope).sqrt() - 1)
    return (value * inner).sum() / solid.numel()


def depth_normals(depth: Tensor, ray: Tensor) -> Tensor:
    """Normals of a depth patch in camera axes (x right, y up, z towards the camera).

    Args:
        depth: [P, 1, h, w] along unit rays. ray: [P, 3, h, w], unit directions in OpenCV camera axes.
    """
    point = nnF.pad(depth * ray, (1, 1, 1, 1), mode="replicate")
    along_x = point[..., 1:-1, 2:] - point[..., 1:-1, :-2]
    along_y = point[..., 2:, 1:-1] - point[..., :-2, 1:-1]
    normal = nnF.normalize(torch.linalg.cross(along_y, along_x, dim=1), dim=1, eps=1e-9)
    return normal * torch.tensor([1.0, -1.0, -1.0], device=depth.device)[:, None, None]


class Losses:
    """Weighted sum of the losses that have a weight.

    Raises:
        UserError: a loss lacks its patches, its normals or its network.
    """

    def __init__(self, options: NerfOptions, robust: bool, targets: Targets, view_names: list[int] | None) -> None:
        self.weights, self.robust = options.weights, robust
        w = options.weights
        self.geometry = bool(w.normal or w.depth or w.bilateral)
        if (self.geometry or w.lpips) and not options.patches_per_step:
            raise UserError("the depth, normal, bilateral and LPIPS losses need --nerf.patches-per-step above 0")
        self.normals = None
        if w.normal:
            if options.normals is None:
                raise UserError("--nerf.weights.normal needs --nerf.normals FOLDER with an estimator's normal maps")
            self.normals = read_normals(options.normals, targets, view_names).to(targets.images.device)
        self.perceptual = None
        if w.lpips:
            if options.patch < LPIPS_SMALLEST:
                raise UserError(f"LPIPS needs --nerf.patch of at least {LPIPS_SMALLEST}; got {options.patch}")
            from viewtime.sample.metrics.networks.perceptual import Lpips

            self.perceptual = Lpips("alex", str(targets.images.device)).module

    def __call__(self, picture: RayPicture, batch: Batch, views: Viewpoints) -> tuple[Tensor, Tensor]:
        """The loss, and the mean squared error of the colour on white; both scalars on the device."""
        w = self.weights
        colour = picture.rgb + (1 - picture.alpha)[:, None]
        square = (colour - batch.target[:, :3]).square()
        mask = picture.alpha - batch.target[:, 3]
        data = ROBUST_SCALE * ((1 + square / ROBUST_SCALE**2).sqrt() - 1) if self.robust else square
        total = w.mse * data.mean() + w.mask * mask.square().mean()
        if batch.patches and self.geometry:
            total = total + self._geometry(picture, batch, views)
        if batch.patches and self.perceptual is not None:
            pair = [2 * batch.squares(c) - 1 for c in (colour, batch.target[:, :3])]
            total = total + w.lpips * self.perceptual(*pair).mean()
        return total, square.detach().mean()

    def _geometry(self, picture: RayPicture, batch: Batch, views: Viewpoints) -> Tensor:
        w = self.weights
        depth = batch.squares((picture.depth / picture.alpha.clamp(min=1e-3))[:, None])
        solid = (batch.squares(picture.alpha[:, None]) > SOLID) & (batch.squares(batch.target[:, 3:]) > SOLID)
        pixel = batch.spacing / views.focal.detach().mean() * depth.detach().mean().clamp(min=1e-3)
        total = w.depth * smooth_depth(depth / pixel, solid)
        if not (w.normal or w.bilateral):
            return total
        camera = (batch.place - views.centre[batch.which]) / views.focal[batch.which, None]
        ray = nnF.normalize(torch.cat([camera, torch.ones_like(camera[:, :1])], dim=1), dim=1)
        normal = depth_normals(depth, batch.squares(ray))
        total = total + w.bilateral * bilateral_normal(normal, batch.squares(batch.target[:, :3]), solid)
        if self.normals is not None:
            wanted = self.normals[batch.cells[batch.which], :, batch.place[:, 1].long(), batch.place[:, 0].long()]
            agreement = (normal * batch.squares(wanted)).sum(dim=1, keepdim=True)
            total = total + w.normal * ((1 - agreement) * solid).sum() / solid.numel()
        return total


def read_normals(folder: Path, targets: Targets, view_names: list[int] | None) -> Tensor:
    """Unit normals [V · F, 3, H, W] from view_000/frame_000.png (colour = 0.5 + 0.5 normal), camera axes.

    Raises:
        UserError: a picture is missing or has another size.
    """
    V, F, H, W = targets.shape
    maps = []
    for view in view_names or range(V):
        for frame in range(F):
            path = folder / f"view_{view:03d}" / f"frame_{frame:03d}.png"
            if not path.is_file():
                raise UserError(f"no normal map {path}; the normal loss needs one for each view and frame")
            pixels = torch.from_numpy(read_image(path)[..., :3].copy()).float() / 127.5 - 1
            if pixels.shape[:2] != (H, W):
                raise UserError(f"{path} is {tuple(pixels.shape[:2])}; the grid's pictures are {(H, W)}")
            maps.append(nnF.normalize(rearrange(pixels, "h w c -> c h w"), dim=0))
    return torch.stack(maps)
