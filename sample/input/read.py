"""Any accepted form of input as a `Video`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from viewtime.errors import UserError
from viewtime.video import DEFAULT_FPS, NO_RATE, Video, read_video

ROUNDING = 1e-3  # by which resampling may pass the ends of a range
READ_SIDE = 1024  # videos are shrunk to this longer side while they are decoded
FINEST_SIDE = 4096  # unless the object is small in them: then at most to this one


def as_video(
    video: str | Path | Video | np.ndarray | Tensor | Sequence, frames: int | None, fps: float | None = None
) -> Video:
    """Any accepted form of input as a `Video`: its first `frames` frames, or as much as makes so many at `fps`.

    Arrays are [F, H, W, 3 or 4], lists hold frames [H, W, 3 or 4] or PIL images: integers of any width from 0 to 255,
    or floats from 0 to 1.

    Raises:
        UserError: another shape, frames of several sizes, or values beyond these.
    """
    if frames is not None and frames < 1:
        raise UserError(f"--frames {frames}; at least 1 is needed")
    if isinstance(video, (str, Path)):
        return read_beginning(video, frames, fps, READ_SIDE)
    if isinstance(video, Video):
        whole = max(len(video.frames) / video.fps, video.whole)
        enough = _enough(frames, fps, video.fps)
        return replace(video, frames=as_pixels(video.frames[:enough]), whole=whole)
    enough = _enough(frames, fps, DEFAULT_FPS)
    if isinstance(video, Sequence):
        parts = [as_pixels(_array(frame)) for frame in video[:enough]]
        shapes = sorted({part.shape for part in parts})
        if any(len(shape) != 3 or shape[-1] not in (3, 4) for shape in shapes) or not parts:
            raise UserError(f"a list of frames of shapes {shapes}; needed: frames [H, W, 3 or 4], at least one")
        if len(shapes) > 1:
            raise UserError(f"a list of frames of shapes {shapes}; give frames of one size, all with alpha or none")
        return _untimed(np.stack(parts), len(video))
    array = _array(video)
    if array.ndim != 4 or array.shape[-1] not in (3, 4) or not len(array):
        raise UserError(f"frames have shape {array.shape}; needed: [F, H, W, 3 or 4] with F at least 1")
    return _untimed(as_pixels(array[:enough]), len(array))


def _untimed(frames: np.ndarray, given: int) -> Video:
    """Frames that nobody gave a rate, the first of `given`."""
    note = NO_RATE.format("frames as an array have") if given > 1 else ""
    return Video(frames, DEFAULT_FPS, note, given / DEFAULT_FPS)


def read_beginning(video: str | Path, frames: int | None, fps: float | None, side: int) -> Video:
    """The first `frames` frames of a file, or as much of it as makes so many at `fps`; see `read_video`."""
    if frames is None or fps is None or fps <= 0:
        return read_video(video, frames, side)
    return read_video(video, None, side, frames / fps)


def _enough(frames: int | None, fps: float | None, own: float) -> int | None:
    """How many frames of a video of rate `own` make `frames` at `fps`."""
    return frames if frames is None or fps is None or fps <= 0 else ceil(frames / fps * own)


def _array(value: object) -> np.ndarray:
    """What holds numbers as an array; a tensor from any device, bfloat16 as float32."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, Image.Image):
        return np.asarray(value.convert("RGBA" if value.has_transparency_data else "RGB"))
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(f"frames that make no array: {error}; give [F, H, W, 3 or 4]") from error


def finer_side(picture: tuple[int, int], crop_side: float, cell_height: int) -> int | None:
    """Longer side at which a shrunk video must be read again so that its crop is as high as a cell.

    Args:
        picture: (height, width) as it was read.
        crop_side: height of the smallest crop, in pixels of that picture.

    Returns:
        None where the crop is high enough, or the video was not shrunk.
    """
    if crop_side >= cell_height or max(picture) < READ_SIDE:
        return None
    return min(FINEST_SIDE, round(READ_SIDE * cell_height / crop_side + 0.5))


def as_pixels(values: np.ndarray) -> np.ndarray:
    """Numbers as uint8 pixels: integers of any width from 0 to 255 as they are, floats from 0 to 1 times 255.

    Raises:
        UserError: another kind of number, one that is not finite, or one beyond its range; says which.
    """
    if values.dtype == np.uint8 or not values.size:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype.kind not in "iuf":
        raise UserError(f"frames of {values.dtype}; needed: integers from 0 to 255 or floats from 0 to 1")
    low, high = values.min(), values.max()
    if values.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise UserError(
                f"frames of {values.dtype} reach from {low} to {high}; integers are pixel values from 0 to 255: "
                "bring them to that range (16 bits: divide by 257)"
            )
        return values.astype(np.uint8)
    if not (np.isfinite(low) and np.isfinite(high)) or low < -ROUNDING or high > 1 + ROUNDING:
        raise UserError(
            f"frames of {values.dtype} reach from {low:g} to {high:g}; floats lie in 0 … 1: divide pixel values by "
            "255, bring -1 … 1 there by (x + 1) / 2"
        )
    return (np.clip(values.astype(np.float32), 0, 1) * 255 + 0.5).astype(np.uint8)
