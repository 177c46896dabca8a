"""From any video to the RGBA cells that the network sees, with a record of how to undo it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from PIL import Image

from viewtime.configs.schema.sample import PreprocessOptions
from viewtime.errors import UserError
from viewtime.images import write_image
from viewtime.video import Video

from .found_sheet import found_sheet
from .mask_files import read_masks
from .matte import SMALLEST_OBJECT, border_colour, find_matte, has_transparency
from .published_crop import BRIGHTEST, published_crop

VISIBLE = 13  # alpha (of 255) from which a pixel belongs to the bounding box


@dataclass(frozen=True)
class Crop:
    """The part of the source picture that becomes a cell, in source pixels; it may reach beyond the picture.

    `side` is its height; its width follows from the shape of the cell, mostly a square.
    """

    left: float
    top: float
    side: float


@dataclass(frozen=True)
class PreparedVideo:
    """Cells and how they came about.

    Attributes:
        cells: uint8 [F, H, W, 4], RGBA, straight alpha.
        fps: frames per second of the cells.
        crops: one per frame; equal unless each frame was centred.
        source_size: (height, width) of the source picture.
        source_frames: index of the source frame behind each cell.
        notes: what the user should know.
        how: by what the object was found.
        sheet: uint8 [H, W, 3], some source pictures with the object's outline; None where everything is the object.
    """

    cells: np.ndarray
    fps: float
    crops: tuple[Crop, ...]
    source_size: tuple[int, int]
    source_frames: tuple[int, ...]
    notes: tuple[str, ...] = field(default=())
    how: str = ""
    sheet: np.ndarray | None = None

    def record(self) -> dict[str, Any]:
        """Plain values for the grid's provenance.

        Point (x, y) of a cell of height H lies at (left + x · side / H, top + y · side / H) of the source picture.
        """
        return {
            "source_height": self.source_size[0],
            "source_width": self.source_size[1],
            "object_found_by": self.how,
            "source_frames": list(self.source_frames),
            "crops": [asdict(crop) for crop in self.crops],
        }


def prepare_video(
    video: Video,
    size: int | tuple[int, int],
    options: PreprocessOptions | None = None,
    object_share: float = 0.9,
    mask: str | Path | np.ndarray | None = None,
    most: int | None = None,
) -> PreparedVideo:
    """Resample in time, find the object, crop it and scale it to cells.

    Args:
        size: of a cell in pixels: side of a square, or (height, width).
        object_share: where the options name none.
        mask: of the object, files or uint8 [F, H, W], one per frame of the video.
        most: number of cells.

    Raises:
        UserError: no visible object, a background that cannot be keyed, or masks that do not fit.
    """
    options = options or PreprocessOptions()
    share = object_share if options.object_share is None else options.object_share
    if not 0.05 < share <= 1:
        raise UserError(f"--preprocess.object-share {share}; must lie between 0.05 and 1")
    masks = (
        None if mask is None else read_masks(mask, len(video.frames), (video.frames.shape[1], video.frames.shape[2]))
    )
    frames, fps, indices = resample_frames(video.frames, video.fps, options.fps, most)
    masks = None if masks is None else masks[indices]
    notes = [*filter(None, [video.note, rest_of(video.whole, len(frames), fps) if len(frames) == most else ""])]
    height, width = frames.shape[1:3]
    if options.crop == "published":
        if not isinstance(size, int) and size[0] != size[1]:
            raise UserError(f"--preprocess.crop published makes squares; the cells are {size[1]} × {size[0]} px")
        how, sheet = "as the published scripts do: any alpha at all, or not nearly white", None
        if options.background != "auto" or masks is not None or not _prepared_for_scripts(frames):
            matte = find_matte(frames, options, masks)
            frames, how, sheet = matte.rgba, matte.how, found_sheet(frames, matte.rgba[..., 3])
            notes += matte.warning
        cells, place = published_crop(frames, size if isinstance(size, int) else size[0], share)
        crops = (Crop(*place),) * len(cells)
        return PreparedVideo(cells, fps, crops, (height, width), tuple(indices), tuple(notes), how, sheet)
    matte = find_matte(frames, options, masks)
    notes += matte.warning
    boxes = [bounding_box(frame[..., 3]) for frame in matte.rgba]
    seen = [box for box in boxes if box is not None]
    if not seen:
        raise UserError(
            f"no visible object: every frame is all background by {matte.how}; lower --preprocess.tolerance "
            f"{options.tolerance}, give masks with --mask, or take the whole picture with --preprocess.background keep"
        )
    if len(seen) < len(boxes):
        notes.append(f"the object is out of sight in {len(boxes) - len(seen)} of {len(boxes)} frames")
    cell = (size, size) if isinstance(size, int) else size
    crops = tuple(choose_crops(boxes, frames.shape[1:3], options.crop, share, cell[1] / cell[0]))
    cells = np.stack([cut(frame, crop, cell) for frame, crop in zip(matte.rgba, crops)])
    sheet = found_sheet(frames, matte.rgba[..., 3])
    return PreparedVideo(cells, fps, crops, (height, width), tuple(indices), tuple(notes), matte.how, sheet)


def _prepared_for_scripts(frames: np.ndarray) -> bool:
    """Whether the published scripts would find the object: transparency, or a nearly white border."""
    return has_transparency(frames) or float(border_colour(frames)[0].mean()) > BRIGHTEST


def rest_of(whole: float, used: int, fps: float) -> str:
    """What to say where a video goes on after the frames that are used: `whole` seconds, of which `used` frames."""
    if whole < (used + 1) / fps:
        return ""
    return (
        f"the first {used / fps:.2g} of the video's {whole:.2g} seconds are used: --preprocess.fps {used / whole:.3g} "
        f"spreads {used} frames over all of it"
    )


def resample_frames(
    frames: np.ndarray, fps: float, wanted: float | None, most: int | None = None
) -> tuple[np.ndarray, float, list[int]]:
    """Nearest source frame at each instant of the wanted rate, at most so many: (frames, fps, source indices)."""
    if wanted is None or wanted == fps:
        return frames[:most], fps, list(range(len(frames)))[:most]
    if wanted <= 0:
        raise UserError(f"--preprocess.fps {wanted}; must be positive")
    count = max(1, round(len(frames) / fps * wanted))
    count = count if most is None else min(count, most)
    indices = [min(len(frames) - 1, int((k + 0.5) * fps / wanted)) for k in range(count)]
    return frames[indices], wanted, indices


def bounding_box(alpha: np.ndarray) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of the visible pixels, right and bottom exclusive; None where there is no object."""
    visible = alpha >= VISIBLE
    if visible.mean() < SMALLEST_OBJECT:
        return None
    columns, rows = np.flatnonzero(visible.any(axis=0)), np.flatnonzero(visible.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def choose_crops(
    boxes: list[tuple[int, int, int, int] | None], picture: tuple[int, ...], crop: str, share: float, aspect: float
) -> list[Crop]:
    """One crop per frame, of the cell's shape.

    "video": one around the union of all boxes, so that the object's motion across the picture stays.
    "frame": each frame centred on its own box; the side is shared, so that the object's size does not pulse.
    "none": the whole picture, padded. "fill": its largest part about the centre.

    Args:
        aspect: width / height of a cell.
    """
    height, width = picture
    if crop in ("none", "fill"):
        side = (max if crop == "none" else min)(height, width / aspect)
        return [Crop((width - side * aspect) / 2, (height - side) / 2, side)] * len(boxes)
    seen = [box for box in boxes if box is not None]
    if crop == "video":
        union = [(min(b[0] for b in seen), min(b[1] for b in seen), max(b[2] for b in seen), max(b[3] for b in seen))]
        side = max((union[0][2] - union[0][0]) / aspect, union[0][3] - union[0][1]) / share
        return [_around(union[0], side, aspect)] * len(boxes)
    side = max(max((b[2] - b[0]) / aspect, b[3] - b[1]) for b in seen) / share
    crops, last = [], seen[0]
    for box in boxes:
        last = box or last
        crops.append(_around(last, side, aspect))
    return crops


def _around(box: tuple[int, int, int, int], side: float, aspect: float) -> Crop:
    left, top, right, bottom = box
    return Crop((left + right - side * aspect) / 2, (top + bottom - side) / 2, side)


def cut(frame: np.ndarray, crop: Crop, cell: tuple[int, int]) -> np.ndarray:
    """One cell of (height, width), uint8 RGBA, from an RGBA frame [H, W, 4].

    It is transparent where the crop reaches beyond the picture.

    Scaled by Lanczos, like the published crop; colours are weighted by alpha meanwhile, so that no background bleeds
    into the edge.
    """
    weight = frame[..., 3:].astype(np.float32) / 255.0
    planes = np.concatenate([frame[..., :3].astype(np.float32) * weight, weight * 255.0], axis=-1)
    height, width = cell
    crop_width = crop.side * width / height
    # Room around the picture, so that the box below lies inside it.
    before_x, before_y = max(0, int(np.ceil(-crop.left))), max(0, int(np.ceil(-crop.top)))
    after_x = max(0, int(np.ceil(crop.left + crop_width - frame.shape[1])))
    after_y = max(0, int(np.ceil(crop.top + crop.side - frame.shape[0])))
    planes = np.pad(planes, ((before_y, after_y), (before_x, after_x), (0, 0)))
    left, top = max(0.0, crop.left + before_x), max(0.0, crop.top + before_y)
    box = (left, top, min(planes.shape[1], left + crop_width), min(planes.shape[0], top + crop.side))
    filtered = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.LANCZOS, box=box))
        for plane in rearrange(planes, "h w c -> c h w")
    ]
    scaled = np.stack(filtered, axis=-1)
    # Lanczos passes the ends at edges: colour and alpha alike, so they are divided before either is cut.
    alpha = scaled[..., 3:]
    rgb = np.where(alpha > 0.5, scaled[..., :3] * 255.0 / np.maximum(alpha, 0.5), 255.0)
    return np.clip(np.concatenate([rgb, alpha], axis=-1) + 0.5, 0, 255).astype(np.uint8)


def write_preview(prepared: PreparedVideo, path: Path, columns: int = 8) -> Path:
    """A PNG: how the object was found in the source; what the network will see on white, and its alpha, below."""
    chosen = np.linspace(0, len(prepared.cells) - 1, min(columns, len(prepared.cells))).round().astype(int)
    cells = prepared.cells[chosen].astype(np.float32)
    alpha = cells[..., 3:] / 255.0
    colour = cells[..., :3] * alpha + 255.0 * (1 - alpha)
    matte = np.repeat(alpha * 255.0, 3, axis=-1)
    shown = rearrange(np.stack([colour, matte]), "r n h w c -> (r h) (n w) c")
    scale = max(1, 128 // prepared.cells.shape[1])
    shown = np.clip(shown + 0.5, 0, 255).astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
    if prepared.sheet is not None:
        height = round(prepared.sheet.shape[0] * shown.shape[1] / prepared.sheet.shape[1])
        above = Image.fromarray(prepared.sheet).resize((shown.shape[1], height), Image.Resampling.LANCZOS)
        shown = np.concatenate([np.asarray(above), shown])
    return write_image(path, shown)
