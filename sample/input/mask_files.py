"""Masks that the user gives: a video, images, or the arrays that SAM 2 and its like leave."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from viewtime.errors import UserError, first_line
from viewtime.video import read_video

LABELS = 16  # a picture of at most so many values holds labels of objects, not shades
DARK = 32


def read_masks(source: str | Path | np.ndarray, frames: int, picture: tuple[int, int]) -> np.ndarray:
    """Alpha uint8 [F, height, width] for a video of `frames` frames whose pictures are (height, width).

    Raises:
        UserError: no masks there, fewer than frames, of another shape than the picture, or empty throughout.
    """
    if isinstance(source, np.ndarray):
        masks, name = _from_array(source, "the array"), "the masks"
    elif Path(source).suffix.lower() in (".npz", ".npy"):
        masks, name = _from_numpy(Path(source)), str(source)
    else:
        masks, name = _from_pictures(read_video(source).frames), str(source)
    if len(masks) < frames:
        raise UserError(f"{name}: {len(masks)} masks for {frames} frames of the video; one per frame is needed")
    height, width = masks.shape[1:]
    if abs(width * picture[0] / (height * picture[1]) - 1) > 0.02:
        raise UserError(
            f"{name}: masks of {width} × {height} px for a video of {picture[1]} × {picture[0]} px; "
            "they must have one shape"
        )
    if not masks[:frames].any():
        raise UserError(f"{name}: every mask is empty; the object must be brighter than the background")
    size = (picture[1], picture[0])
    return np.stack(
        [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR)) for mask in masks[:frames]]
    )


def _from_pictures(frames: np.ndarray) -> np.ndarray:
    """Transparency where there is any, else brightness; few values are labels, of which all but 0 are the object."""
    planes = frames[..., 3] if frames.shape[-1] == 4 and (frames[..., 3] < 255).any() else frames[..., :3].max(axis=-1)
    if len(np.unique(planes)) > LABELS:
        return planes
    # Numbers of objects are dark, their palettes' colours are not; what a codec leaves beside a bright mask is darker.
    least = 1 if planes.max() < DARK else DARK
    return (planes >= least).astype(np.uint8) * 255


def _from_numpy(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"no such masks: {path}; give a video, a folder of PNGs, or an NPZ of arrays [F, H, W]")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} holds no plain arrays: {first_line(error)}") from error
    if not arrays:
        raise UserError(f"{path} holds no array")
    if len(arrays) == 1:
        return _from_array(next(iter(arrays.values())), str(path))
    named = next((arrays[name] for name in ("masks", "mask", "video_segments") if name in arrays), None)
    if named is not None:
        return _from_array(named, str(path))
    # One array per frame, named by its number.
    order = sorted(arrays, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    if len({arrays[name].shape for name in order}) > 1:
        raise UserError(f"{path} holds arrays of several shapes ({', '.join(order[:4])}, …); name the masks `masks`")
    return _from_array(np.stack([arrays[name] for name in order]), str(path))


def _from_array(array: np.ndarray, name: str) -> np.ndarray:
    """[F, H, W], with axes of objects between, of bools, labels, bytes, probabilities or logits -> uint8 [F, H, W]."""
    if array.ndim < 3:
        raise UserError(f"{name} has shape {array.shape}; masks are [F, H, W], or [F, objects, H, W]")
    flat = array.reshape(len(array), -1, *array.shape[-2:])
    if np.issubdtype(flat.dtype, np.floating):
        # SAM 2 gives logits; a probability is never negative.
        shades = (flat > 0) * 255.0 if (flat < 0).any() else flat.clip(0, 1) * 255.0 + 0.5
        return shades.max(axis=1).astype(np.uint8)
    if flat.dtype == np.uint8 and len(np.unique(flat)) > LABELS:
        return flat.max(axis=1)
    return (flat != 0).any(axis=1).astype(np.uint8) * 255
