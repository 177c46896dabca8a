"""Any accepted form of input as a `Video`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from viewtime.errors import UserError
from viewtime.video import DEFAULT_FPS, Video, read_video

READ_SIDE = 1024  # videos are shrunk to this longer side while they are decoded


def as_video(video: str | Path | Video | np.ndarray | Tensor | Sequence, frames: int | None) -> Video:
    """Any accepted form of input as a `Video` of at most `frames` frames."""
    if frames is not None and frames < 1:
        raise UserError(f"--frames {frames}; at least 1 is needed")
    if isinstance(video, (str, Path)):
        return read_video(video, frames, READ_SIDE)
    if isinstance(video, Video):
        return replace(video, frames=video.frames[:frames])
    array = np.asarray(video)
    if array.ndim != 4 or array.shape[-1] not in (3, 4) or not len(array):
        raise UserError(f"frames have shape {array.shape}; needed: [F, H, W, 3 or 4] with F at least 1")
    if array.dtype != np.uint8:
        array = (np.clip(array, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Video(array[:frames], DEFAULT_FPS)
