"""Films that keep every 8-bit value, with alpha: FFV1 in Matroska. What is measured is read from these."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from viewtime.errors import UserError
from viewtime.files import atomic_path

BITEXACT = {"fflags": "+bitexact"}  # no random identity of the file in its header
FORMATS = {3: ("bgr0", "rgb24"), 4: ("bgra", "rgba")}  # channels -> pixels in the file, pixels here


def write_exact(path: str | Path, frames: np.ndarray, fps: float) -> Path:
    """Write uint8 [F, H, W, 3 | 4], any size, straight alpha."""
    path = Path(path)
    stored, given = FORMATS[frames.shape[3]]
    with atomic_path(path) as temporary, av.open(str(temporary), "w", container_options=BITEXACT) as container:
        stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = stored
        stream.options = {"level": "3", "slicecrc": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=given)))
        container.mux(stream.encode())
    return path


def read_exact(path: str | Path, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The frames of `write_exact`, uint8.

    Args:
        shape: (F, H, W, C) that they must have.

    Raises:
        UserError: no such file, damaged, or frames of another number or size.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    count, height, width, channels = shape
    frames: list[np.ndarray] = []
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            for frame in container.decode(video=0):
                if (frame.height, frame.width) != (height, width) or len(frames) == count:
                    raise UserError(
                        f"{path}: frame {len(frames)} has {frame.width} × {frame.height} pixels; "
                        f"{count} frames of {width} × {height} are expected"
                    )
                frames.append(frame.to_ndarray(format=FORMATS[channels][1]))
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise UserError(f"{path} is damaged: {str(error).split(':')[0]}") from error
    if len(frames) != count:
        raise UserError(f"{path} holds {len(frames)} frames; {count} are expected")
    return np.stack(frames)
