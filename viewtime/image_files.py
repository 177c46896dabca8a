"""The one door for image files: still ones and animated ones (GIF, WebP, APNG, AVIF, TIFF), upright, 8 bits deep."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from viewtime.errors import UserError, first_line
from viewtime.memory import check_memory

IMAGE_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif")
MOST_PIXELS = 1 << 27  # of one picture
STILL_SECONDS = 0.1  # how long players show a frame that names no time


class Animation(NamedTuple):
    """Frames uint8 [F, H, W, 3 | 4]; seconds that each is shown, None where the file says nothing of time; a note.

    `count` is the number of frames in the file, of which only the first may have been read.
    """

    frames: np.ndarray
    durations: list[float] | None
    note: str = ""
    count: int = 1


def read_image(source: str | Path | bytes, where: str | None = None) -> np.ndarray:
    """Pixels as uint8 [H, W, 3], or [H, W, 4] where the file has transparency; the first frame of an animated one.

    The camera's orientation (EXIF) is undone. Grey of 16 bits is brought to 8.

    Args:
        source: a path, or the bytes of a file.
        where: what to call the source in errors; default: its path.

    Raises:
        UserError: the file is missing, is not an image, is too large, or has values of an unknown range.
    """
    with _opened(source, where) as image:
        return _pixels(image)


def read_animation(source: str | Path, max_frames: int | None = None, seconds: float | None = None) -> Animation:
    """All frames of an image file, one for a still picture; or the first so many, or so many seconds of them.

    Pages of a TIFF of another size than the first (thumbnails) are left out, which the note says.

    Raises:
        UserError: as `read_image`.
    """
    frames: list[np.ndarray] = []
    durations: list[float] = []
    left_out, untold = 0, 0
    with _opened(source, None) as image:
        skipped = 1 if image.info.get("default_image") else 0  # shown by programs that know no APNG
        count = getattr(image, "n_frames", 1)
        timed = image.format != "TIFF" and count > 1
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            if number < skipped:
                continue
            pixels = _pixels(frame)
            if frames and pixels.shape[:2] != frames[0].shape[:2]:
                left_out += 1
                continue
            check_memory(2 * pixels.nbytes * (len(frames) + 1), str(source))
            frames.append(pixels)
            milliseconds = frame.info.get("duration") or 0
            untold += milliseconds <= 0
            durations.append(milliseconds / 1000 if milliseconds > 0 else STILL_SECONDS)
            if len(frames) == max_frames or (seconds is not None and sum(durations) >= seconds):
                break
    notes = [f"{Path(source).name}: {left_out} pages of another size than the first are left out"] if left_out else []
    if untold and timed:
        notes.append(f"{Path(source).name} names no time for {untold} frames: {STILL_SECONDS:g} s each are taken")
    return Animation(alike(frames), durations if timed else None, "; ".join(notes), count - skipped)


def alike(frames: list[np.ndarray]) -> np.ndarray:
    """Frames of one size as one array; RGBA, opaque where a frame had no alpha, as soon as one has alpha."""
    if len({frame.shape[-1] for frame in frames}) > 1:
        frames = [
            frame if frame.shape[-1] == 4 else np.concatenate([frame, np.full_like(frame[..., :1], 255)], axis=-1)
            for frame in frames
        ]
    return np.stack(frames)


def natural_order(path: Path | str) -> list[tuple[int, int, str]]:
    """Sorting key by which frame_2 comes before frame_10."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), part) if part.isascii() and part.isdigit() else (0, 0, part) for part in parts]


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_hidden(path: Path) -> bool:
    """Whether a file is none of the user's pictures: macOS' `._` twins, and whatever begins with a dot."""
    return path.name.startswith(".")


@contextmanager
def _opened(source: str | Path | bytes, where: str | None) -> Iterator[Image.Image]:
    name = where or ("the image" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes) and not is_file(Path(source)):
        raise UserError(f"no such image: {source}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, whose limit is below; of damaged EXIF
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise UserError(
                        f"{name} has {width} × {height} pixels; at most {MOST_PIXELS / 1e6:.0f} million are read: "
                        "make it smaller"
                    )
                yield image
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is larger than any picture that is read: {error}; make it smaller") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their damaged input leads them to
        reason = first_line(error)
        raise UserError(f"{name} is not an image that can be read: {reason}") from error


def _pixels(image: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _deep_grey(upright)
    transparent = upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info
    return np.asarray(upright.convert("RGBA" if transparent else "RGB"))


def _deep_grey(image: Image.Image) -> np.ndarray:
    """Grey of 16 bits (65535 is white) or floats from 0 to 1 as uint8 [H, W, 3]; Pillow's own conversion clips."""
    values = np.asarray(image).astype(np.float64)
    white = 1.0 if image.mode == "F" else 65535.0
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > white:
        raise UserError(
            f"grey values reach from {values.min():g} to {values.max():g}; they must lie in 0 … {white:g}: "
            "save the picture with 8 or 16 bits"
        )
    grey = (values * (255.0 / white) + 0.5).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
