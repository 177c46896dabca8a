"""Parameters that absorb what generated views get wrong: where, how large, how bright, and bent how."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from viewtime.configs.schema.reconstruct import ImperfectOptions
from viewtime.recon.render.splats import Viewpoints


class Compensation(nn.Module):
    """Per image: a shift in pixels, a log scale and a gain per channel; per view: a displacement of the points.

    All start at zero, the identity, and are pulled towards it, because a common shift of all images would only move
    the object.
    """

    def __init__(self, options: ImperfectOptions, views: int, frames: int, control: Tensor) -> None:
        super().__init__()
        self.options = options
        self.shift = nn.Parameter(torch.zeros(views * frames, 2))
        self.log_zoom = nn.Parameter(torch.zeros(views * frames))
        self.log_gain = nn.Parameter(torch.zeros(views * frames, 3))
        self.view_translation = nn.Parameter(torch.zeros(views, len(control), 3))
        self.control: Tensor
        self.width: Tensor
        self.register_buffer("control", control.clone())
        self.register_buffer(
            "width", torch.cdist(control, control).topk(min(4, len(control)), largest=False).values.mean()
        )

    @property
    def active(self) -> bool:
        """Whether anything is learned."""
        return self.options.offset or self.options.exposure or self.options.view_deformation

    def views(self, views: Viewpoints, cells: Tensor) -> Viewpoints:
        """The cameras of the given cells, moved and zoomed about the picture's centre."""
        chosen = views[cells]
        if not self.options.offset:
            return chosen
        zoom = self.log_zoom[cells].exp()
        return Viewpoints(
            chosen.world_to_camera, chosen.focal * zoom, chosen.centre + self.shift[cells], chosen.height, chosen.width
        )

    def expose(self, rgb: Tensor, alpha: Tensor, cells: Tensor) -> Tensor:
        """Premultiplied [B, 3, H, W] -> with the image's gain, on white."""
        if self.options.exposure:
            rgb = rgb * self.log_gain[cells].exp()[:, :, None, None]
        return rgb + (1 - alpha)

    @torch.no_grad()
    def correct(self, images: Tensor, views: Viewpoints) -> Tensor:
        """Pictures [V, F, 4, H, W] (RGB on white, mask) as they would be without the learned shift, zoom and gain."""
        V, _, _, H, W = images.shape
        flat = rearrange(images, "v f c h w -> (v f) c h w")
        coverage, size = flat[:, 3:], torch.tensor([W, H], dtype=flat.dtype)
        premultiplied = (flat[:, :3] - (1 - coverage)) / self.log_gain.exp()[:, :, None, None]
        zoom = self.log_zoom.exp()[:, None]
        theta = torch.zeros(len(flat), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = zoom[:, 0]
        # In grid_sample's units (-1 to 1): pixel p of the corrected picture lies at centre + shift + zoom (p - centre).
        theta[:, :, 2] = 2 * (views.centre + self.shift - zoom * views.centre) / size + zoom - 1
        places = F.affine_grid(theta, list(flat.shape), align_corners=False)
        moved = F.grid_sample(torch.cat([premultiplied, coverage], 1), places, mode="bicubic", align_corners=False)
        mask = moved[:, 3:].clamp(0, 1)
        colour = torch.minimum(moved[:, :3].clamp(min=0), mask) + 1 - mask
        return rearrange(torch.cat([colour, mask], dim=1), "(v f) c h w -> v f c h w", v=V)

    def displacement(self, position: Tensor, view: Tensor) -> Tensor | None:
        """Δp_v of Eq. 11 for canonical points [N, 3]: [B, N, 3], smooth in space; None when off."""
        if not self.options.view_deformation:
            return None
        near = torch.cdist(position.detach(), self.control)
        weights = (-(near**2) / (2 * self.width**2 + 1e-12)).softmax(dim=1)
        return weights @ self.view_translation[view]

    def regulariser(self) -> Tensor:
        """Pull towards the identity; a scalar."""
        total = 1e-3 * (self.shift**2).mean() + 10 * (self.log_zoom**2).mean() + 3 * (self.log_gain**2).mean()
        return total + 20 * (self.view_translation**2).mean() + 1000 * self.view_translation.mean(0).square().mean()

    def groups(self, rate: float) -> list[dict]:
        """Optimiser groups of the parts that are on."""
        o = self.options
        groups = []
        if o.offset:
            groups += [{"params": [self.shift], "lr": 2e-2 * rate, "name": "shift"}]
            groups += [{"params": [self.log_zoom], "lr": 5e-4 * rate, "name": "zoom"}]
        if o.exposure:
            groups += [{"params": [self.log_gain], "lr": 1e-3 * rate, "name": "gain"}]
        if o.view_deformation:
            groups += [{"params": [self.view_translation], "lr": 5e-4 * rate, "name": "view"}]
        return groups
