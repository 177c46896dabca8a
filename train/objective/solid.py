"""Losses on the input view's solid itself, which a prediction of pictures passes through (`model.mini.frustum`).

Pictures from a few sides say little of a cell that they see through mist; what fills it says it outright. And pictures
at the full size, in a few cells of a batch, are judged by a perceptual distance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from viewtime.configs.schema.loss import LossSection
from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.model.mini.frustum import Frustum
from viewtime.model.mini.rays import camera_axes, slope_of
from viewtime.model.mini.solid import render_solid

from .losses import Cond, stage_loss

SEEN = 0.1  # alpha from which a ray belongs to the object
CERTAIN = 1e-4  # opacities are kept this far from 0 and 1 before the logarithm


class SolidLosses:
    """Watches the solids of a model's forward passes and judges the last.

    Args:
        module: the model, before any process group wraps it.

    Raises:
        UserError: it makes no solid, the network is compiled, or a package is missing.
    """

    def __init__(self, config: TrainConfig, module: nn.Module, device: torch.device) -> None:
        frustums = [part for part in module.modules() if isinstance(part, Frustum)]
        if not frustums or config.model.compile:
            reason = "is compiled, and then nobody sees it" if frustums else "makes none"
            raise UserError(f"loss.solid and loss.perceptual judge the input view's solid; this model {reason}")
        self.solid: Tensor | None = None
        frustums[0].made.register_forward_hook(self._keep)
        self.distance: nn.Module | None = None
        if any(stage_loss(config, stage).perceptual for stage in config.stages):
            from viewtime.sample.metrics.networks.perceptual import StLpips

            self.distance = StLpips(device=str(device)).module.requires_grad_(False)

    @staticmethod
    def wanted(config: TrainConfig, module: nn.Module, device: torch.device) -> SolidLosses | None:
        """Where some stage's loss judges the solid."""
        losses = [stage_loss(config, stage) for stage in config.stages]
        if not any(loss.solid or loss.perceptual for loss in losses):
            return None
        return SolidLosses(config, module, device)

    def _keep(self, _module: nn.Module, _inputs: object, solid: Tensor) -> None:
        self.solid = solid

    def __call__(self, x0: Tensor, cond: Cond, loss: LossSection, generator: torch.Generator) -> Tensor:
        """The weighted sum of both, of the last forward pass; a scalar; x0 [B, V, F, 4, S, S] in [-1, 1].

        Raises:
            UserError: the data carry no solid, or one of another size.
        """
        assert self.solid is not None
        solid, self.solid = self.solid, None
        value = solid.new_zeros(())
        if loss.solid:
            if "solid" not in cond:
                raise UserError(
                    "loss.solid needs a solid with every sample: set data.options.on_the_fly.solid to true, and mix "
                    "assets with creatures alone; shards and videos carry none"
                )
            full, alpha = cond["solid"].flatten(0, 1), x0[:, 0].flatten(0, 1)[:, 3:]
            if full.shape[1:] != solid.shape[2:]:
                raise UserError(
                    f"loss.solid: the data's solids have {full.shape[-1]} cells along an edge, the model's "
                    f"{solid.shape[-1]}; set data.options.resolution to twice that, and model.config.frustum_rays to 0"
                )
            given = cond["known"][:, 0].flatten().to(solid)  # what the network sees nothing of cannot be filled
            errors = filling_errors(solid, full, alpha)
            value = value + loss.solid * (errors * given).sum() / given.sum().clamp_min(1)
        if loss.perceptual and self.distance is not None:
            made, true = some_pictures(solid, x0, cond, loss.perceptual_pictures, generator)
            value = value + loss.perceptual * self.distance(made, true).float().mean()
        return value


def filling_errors(solid: Tensor, full: Tensor, alpha: Tensor) -> Tensor:
    """Cross-entropy, and 1 − soft IoU, of the cells' opacities of each picture [N]; over rays that meet the object.

    Args:
        solid: [N, 4, D, D, D], the fourth the optical depth of a cell. full: [N, D, D, D] in [0, 1].
        alpha: of the pictures [N, 1, S, S] in [-1, 1].
    """
    opacity = (1 - torch.exp(-solid[:, 3].float())).clamp(CERTAIN, 1 - CERTAIN)
    inside = ((F.adaptive_avg_pool2d(alpha, opacity.shape[-1]) + 1) / 2 > SEEN).to(opacity).expand_as(opacity)
    full = (full * inside).clamp(0, 1)
    cells = (1, 2, 3)
    entropy = F.binary_cross_entropy(opacity, full, reduction="none") * inside
    opacity = opacity * inside
    both = opacity * full
    overlap = (both.sum(cells) + 1) / ((opacity + full - both).sum(cells) + 1)
    return entropy.sum(cells) / inside.sum(cells).clamp_min(1) + 1 - overlap


def some_pictures(
    solid: Tensor, x0: Tensor, cond: Cond, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """RGB in [-1, 1] of a random novel view of `count` random solids, and the truth: [count, 3, S, S] each."""
    B, V, frames = x0.shape[:3]
    size = x0.shape[-1]
    chosen = torch.randperm(B * frames, generator=generator)[:count].to(x0.device)
    view = 1 + int(torch.randint(V - 1, (), generator=generator))
    axes = camera_axes(cond["elevation"].float(), cond["azimuth"].float())
    axes = axes.transpose(1, 2).flatten(0, 1)[chosen]  # of every frame, its views
    slope = slope_of(cond["fov_y"]).repeat_interleave(frames)[chosen]
    finer = F.interpolate(solid[chosen].float(), size=(solid.shape[2], size, size), mode="trilinear")
    made = render_solid(finer, axes[:, 0], axes[:, view : view + 1], slope, size)
    return made[:, 0, :3], x0[:, view].flatten(0, 1)[chosen, :3]
