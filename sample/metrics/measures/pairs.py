"""Which two grids may be compared: refusing what differs, or making them alike and saying how."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from viewtime.cameras import Cameras
from viewtime.errors import UserError
from viewtime.grid import FrameGrid

ANGLE_TOLERANCE = 0.1  # degrees
DISTANCE_TOLERANCE = 1e-3  # relative
TIME_TOLERANCE = 1e-3  # seconds


def differences(pred: FrameGrid, gt: FrameGrid, relative_azimuth: bool = False) -> list[str]:
    """What keeps two grids from being compared cell by cell, one phrase each; empty if nothing does."""
    found = []
    (V, F, _, H, W), (V_gt, F_gt, _, H_gt, W_gt) = pred.shape, gt.shape
    if V_gt != V:
        found.append(f"views: {V} and {V_gt}")
    if F_gt != F:
        found.append(f"frames: {F} and {F_gt}")
    if (H_gt, W_gt) != (H, W):
        found.append(f"size: {H}×{W} and {H_gt}×{W_gt}")
    if pred.cameras is None or gt.cameras is None:
        return found
    if (V_gt, F_gt) == (V, F):
        found += _camera_differences(*_orbits(pred.cameras, gt.cameras, relative_azimuth))
    elif V_gt != V:
        missing = [view for view, other in enumerate(_view_match(gt, pred, relative_azimuth)) if other is None]
        if missing:
            azimuths = ", ".join(f"{gt.cameras.azimuth[view, 0]:.0f}°" for view in missing)
            found.append(f"views of the truth that the prediction lacks: {missing} (azimuth {azimuths})")
    return found


def make_alike(
    pred: FrameGrid,
    gt: FrameGrid,
    resize: bool = False,
    intersect: bool = False,
    relative_azimuth: bool = False,
) -> tuple[FrameGrid, FrameGrid, list[str]]:
    """The two grids ready for comparison, and sentences that say what was done to them.

    Args:
        resize: resample the prediction to the truth's size.
        intersect: keep the views and instants that both have.
        relative_azimuth: compare azimuths relative to view 0 of each grid.

    Raises:
        UserError: they still differ; names every difference.
    """
    notes = []
    if (pred.cameras is None) != (gt.cameras is None):
        side = "prediction" if pred.cameras is None else "truth"
        notes.append(f"the {side} has no cameras: views are compared by their index")
    if not intersect and abs(pred.fps - gt.fps) > 1e-3 * gt.fps:
        notes.append(f"frame rates differ ({pred.fps:g} and {gt.fps:g} per second): frames are compared by their index")
    if intersect:
        pred, gt, done = _intersect(pred, gt, relative_azimuth)
        notes += done
    if resize and pred.shape[3:] != gt.shape[3:]:
        (_, _, _, H, W), (_, _, _, H_gt, W_gt) = pred.shape, gt.shape
        pred = FrameGrid(resample(pred.frames, (H_gt, W_gt)), pred.known, pred.cameras, pred.fps, pred.provenance)
        notes.append(f"prediction resampled from {H}×{W} to the truth's {H_gt}×{W_gt} (bilinear, antialiasing)")
    found = differences(pred, gt, relative_azimuth)
    if found:
        ways = "--resize for sizes, --intersect for views and frames, --relative-azimuth for another zero"
        raise UserError(f"prediction and truth differ ({'; '.join(found)}); make them alike, or use {ways}")
    return pred, gt, notes


def resample(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """[V, F, C, H, W] to another size, bilinear with antialiasing; colour weighted by alpha."""
    V = frames.shape[0]
    pixels = rearrange(frames, "v f c h w -> (v f) c h w")
    alpha = pixels[:, 3:]
    if len(alpha[0]):
        pixels = torch.cat([pixels[:, :3] * alpha, alpha], dim=1)
    pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    if len(alpha[0]):
        weight = pixels[:, 3:]
        colour = torch.where(weight > 1e-4, pixels[:, :3] / weight.clamp(min=1e-4), 1.0)
        pixels = torch.cat([colour, weight], dim=1)
    return rearrange(pixels.clamp(0, 1), "(v f) c h w -> v f c h w", v=V)


def _orbits(first: Cameras, second: Cameras, relative: bool) -> tuple[Cameras, Cameras]:
    return (first.rezero(), second.rezero()) if relative else (first, second)


def _angle(first: Tensor, second: Tensor) -> Tensor:
    """Absolute difference of angles in degrees, at most 180."""
    return (torch.remainder(first - second + 180.0, 360.0) - 180.0).abs()


def _camera_differences(first: Cameras, second: Cameras) -> list[str]:
    found = []
    for name in ("azimuth", "elevation"):
        error = _angle(getattr(first, name), getattr(second, name))
        if error.max() > ANGLE_TOLERANCE:
            view, frame = divmod(int(error.argmax()), error.shape[1])
            found.append(f"{name} by up to {error.max():.1f}° (view {view}, frame {frame})")
    ratio = (first.distance / second.distance - 1).abs().max().item()
    if ratio > DISTANCE_TOLERANCE:
        found.append(f"camera distance by up to {100 * ratio:.1f} %")
    if abs(first.fov_y - second.fov_y) > ANGLE_TOLERANCE:
        found.append(f"field of view: {first.fov_y:.2f}° and {second.fov_y:.2f}°")
    return found


def _view_match(wanted: FrameGrid, offered: FrameGrid, relative: bool) -> list[int | None]:
    """For each view of `wanted`, the view of `offered` with the same azimuth and elevation at frame 0, or None."""
    if wanted.cameras is None or offered.cameras is None:
        return [view if view < offered.shape[0] else None for view in range(wanted.shape[0])]
    first, second = _orbits(wanted.cameras, offered.cameras, relative)
    error = torch.maximum(
        _angle(first.azimuth[:, None, 0], second.azimuth[None, :, 0]),
        _angle(first.elevation[:, None, 0], second.elevation[None, :, 0]),
    )
    return [int(row.argmin()) if row.min() <= ANGLE_TOLERANCE else None for row in error]


def _frame_match(wanted: FrameGrid, offered: FrameGrid) -> list[int | None]:
    """For each frame of `wanted`, the frame of `offered` at the same instant (index / fps), or None."""
    times = torch.arange(offered.shape[1], dtype=torch.float64) / offered.fps
    match: list[int | None] = []
    for frame in range(wanted.shape[1]):
        error = (times - frame / wanted.fps).abs()
        match.append(int(error.argmin()) if error.min() <= TIME_TOLERANCE else None)
    return match


def _intersect(pred: FrameGrid, gt: FrameGrid, relative: bool) -> tuple[FrameGrid, FrameGrid, list[str]]:
    notes, keep = [], []
    matches = {"views": _view_match(gt, pred, relative), "frames": _frame_match(gt, pred)}
    for axis, (name, match) in enumerate(matches.items()):
        pairs = [(ours, theirs) for theirs, ours in enumerate(match) if ours is not None]
        if not pairs:
            raise UserError(f"prediction and truth have no {name} in common; nothing to compare")
        keep.append(pairs)
        if len(pairs) < max(pred.shape[axis], gt.shape[axis]):
            rule = (
                "index"
                if name == "views" and (pred.cameras is None or gt.cameras is None)
                else ("azimuth and elevation" if name == "views" else "time")
            )
            notes.append(
                f"{len(pairs)} {name} in common by {rule} (prediction {pred.shape[axis]}, truth {gt.shape[axis]})"
            )
    (views, frames) = keep
    pred = pred[[ours for ours, _ in views], [ours for ours, _ in frames]]
    gt = gt[[theirs for _, theirs in views], [theirs for _, theirs in frames]]
    return pred, gt, notes
