"""The first Gaussians of a scene: tracked points, those that move and those that do not, with Δp of every view."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from viewtime.cameras import Cameras
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.log import log
from viewtime.recon.gaussians.canonical import Gaussians, spacing_scale
from viewtime.recon.render.splats import Viewpoints

from .floaters import FAINT, confirmed_opacity
from .frame_points import FramePoints, canonical_points, poses_of
from .lift import in_frames, lift
from .pixel_tracks import Flows, keyframe_tracks
from .similarity import align_cameras
from .stillness import changing, on_changing, still_pictures


@dataclass(frozen=True)
class Pictures:
    """What a scene's fit looks at.

    Attributes:
        frames: [V, F, 3, H, W]. still: [V, 3, H, W], without what moves away. changed: [V, F, H, W] bool.
    """

    frames: Tensor
    still: Tensor
    changed: Tensor

    @staticmethod
    def of(grid: FrameGrid, threshold: float) -> Pictures:
        """The pictures of an RGB grid."""
        still = still_pictures(grid.frames)
        return Pictures(grid.frames, still, changing(grid.frames, still, threshold))


def tracked_points(pictures: Pictures, cameras: Cameras, config: ReconstructConfig) -> tuple[FramePoints, Tensor]:
    """Points by optical flow through the views and [N] bool, which of them move.

    What moves is followed through the views of the first frame, what does not through the still pictures, which also
    show what the first frame hides.
    """
    options, H, W = config.scene, *pictures.frames.shape[-2:]
    views = Viewpoints.of(cameras[:, :1], H, W)
    changed = pictures.changed[:, 0]
    parts, flags = [], []
    if options.background:
        tracks = keyframe_tracks(Flows(pictures.still), torch.ones_like(changed))
        parts.append(lift(tracks, views, options))
        flags.append(torch.zeros(len(parts[-1].colours), dtype=torch.bool))
    if changed.any():
        tracks = keyframe_tracks(Flows(pictures.frames[:, 0]), changed)
        parts.append(lift(tracks, views, options))
        flags.append(torch.ones(len(parts[-1].colours), dtype=torch.bool))
    if not parts:
        raise UserError(
            f"nothing moves by more than --scene.still-threshold {options.still_threshold:g}: without a background "
            "there is nothing to fit"
        )
    return FramePoints.joined(parts), torch.cat(flags)


def read_points(
    points: FramePoints, pictures: Pictures, cameras: Cameras, config: ReconstructConfig
) -> tuple[FramePoints, Tensor]:
    """Points of another program's tracker in the cameras' units, and [N] bool, which of them move."""
    H, W = pictures.frames.shape[-2:]
    views = Viewpoints.of(cameras[:, :1], H, W)
    own = align_cameras(poses_of(points), cameras.camera_to_world()[:, 0]).scale
    if not torch.isfinite(own) or own <= 0:
        raise UserError(
            f"{config.scene.tracks}: the views do not move as the grid's cameras do; leave the cameras away"
        )
    points = FramePoints(points.places * own.float(), points.visible, points.colours)
    moving = on_changing(points, views.focal, views.centre, pictures.changed[:, 0])
    if not config.scene.background:
        points, moving = points[moving], moving[moving]
    return points, moving


def first_gaussians(
    points: FramePoints, moving: Tensor, pictures: Pictures, cameras: Cameras, config: ReconstructConfig
) -> Gaussians:
    """Gaussians at the canonical points, without floaters, at most `gaussians.count` of them.

    Raises:
        UserError: fewer than 4 points are left.
    """
    options = config.scene
    matrices = cameras.camera_to_world()[:, 0]
    position, offset = canonical_points(points, matrices, options.canonical)
    if not options.view_offsets:
        offset = torch.zeros_like(offset)
    if len(position) < 4:
        raise UserError(f"only {len(position)} points can be followed through the views; at least 4 are needed")
    H, W = pictures.frames.shape[-2:]
    views = Viewpoints.of(cameras[:, :1], H, W)
    places = torch.stack([in_frames(position + o, m[None])[0] for o, m in zip(offset, views.world_to_camera)])
    opacity = torch.full((len(position),), 0.73)
    if options.opacity_iterations:
        shown, behind = pictures.frames[:, 0], pictures.frames.mean(dim=(0, 1, 3, 4))[:, None, None]
        if not options.background:
            shown = torch.where(pictures.changed[:, :1], shown, behind)
        opacity = confirmed_opacity(
            places,
            spacing_scale(position),
            points.colours,
            shown,
            behind,
            views,
            options.opacity_iterations,
            config.seed,
        )
    generator = torch.Generator().manual_seed(config.seed)
    kept = (opacity >= FAINT).nonzero().flatten()
    if len(kept) < 4:
        raise UserError(
            f"no view confirms more than {len(kept)} of {len(opacity)} points; at least 4 are needed: do the cameras "
            "belong to these views? --scene.opacity-iterations 0 keeps all points"
        )
    kept = kept[torch.randperm(len(kept), generator=generator)[: config.gaussians.count]].sort().values
    scale = spacing_scale(position[kept])
    gaussians = Gaussians(position[kept], scale, points.colours[kept], config.gaussians.isotropic)
    gaussians.opacity_logit.data = torch.logit(opacity[kept].clamp(0.01, 0.99))
    gaussians.moving = moving[kept]
    if options.view_offsets:
        gaussians.view_offset = offset[:, kept].transpose(0, 1).contiguous()
    log.info("%d points, %d of them move", len(gaussians), int(moving[kept].sum()))
    return gaussians
