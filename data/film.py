"""Frames of a film by their numbers, for training: decord seeks, so that a second of a long film costs a second.

decord drops transparency and takes pixels as square and 8 bits deep; films that are not so, animated images, and
machines without decord go through `viewtime.video.read_video`, which decodes from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor

from viewtime.errors import UserError, first_line
from viewtime.hdr import HLG, PQ
from viewtime.video import ALPHA_FORMATS, DEFAULT_FPS, read_video

LONGEST_READ = 400  # frames decoded of a film that is read from its start


@dataclass(frozen=True)
class Film:
    """A film whose frames are read when asked for.

    Attributes:
        count: frames that can be had. fps: frames per second.
        source: decord's reader, or the decoded frames uint8 [F, H, W, C].
    """

    count: int
    fps: float
    source: Any

    def frames(self, numbers: Tensor) -> np.ndarray:
        """uint8 [N, H, W, 3] of int64 frame numbers [N].

        Raises:
            UserError: the film is damaged there.
        """
        if isinstance(self.source, np.ndarray):
            return self.source[numbers.numpy()][..., :3]
        try:
            return self.source.get_batch(numbers.tolist()).asnumpy()
        except _failures() as error:
            raise UserError(f"frames {numbers.tolist()} cannot be decoded: {first_line(error)}") from error


def open_film(path: Path, max_side: int) -> Film:
    """A film, shrunk while it is decoded so that its longer side has at most `max_side` pixels.

    Raises:
        UserError: not a film that can be decoded.
    """
    reader = _seekable(path, max_side)
    if reader is not None:
        rate = float(reader.get_avg_fps())
        return Film(len(reader), rate if np.isfinite(rate) and rate > 0 else DEFAULT_FPS, reader)
    video = read_video(path, max_frames=LONGEST_READ, max_side=max_side)
    return Film(len(video.frames), video.fps, video.frames)


def _seekable(path: Path, max_side: int) -> Any | None:
    """decord's reader, or None where it would not show the film as it is meant."""
    try:
        import decord
    except ImportError:
        return None
    if not _plain(path):
        return None
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        height, width = reader[0].shape[:2]
        scale = max_side / max(width, height)
        if scale < 1:
            small = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
            reader = decord.VideoReader(str(path), num_threads=1, **small)
        reader.get_batch([0])  # which fails for some narrow pictures, whose rows FFmpeg pads
    except _failures():
        return None
    return reader


def _failures() -> tuple[type[Exception], ...]:
    """What decord raises for films that it cannot read."""
    from decord import DECORDError

    return DECORDError, RuntimeError, IndexError


def _plain(path: Path) -> bool:
    """Opaque, square pixels, an ordinary screen's range, and a film, not an animated image."""
    if path.suffix.lower() == ".gif":
        return False
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                return False
            stream = container.streams.video[0]
            layout = stream.format.name if stream.format is not None else ""
            opaque = stream.metadata.get("alpha_mode") != "1" and not layout.startswith(ALPHA_FORMATS)
            return opaque and stream.sample_aspect_ratio in (None, 0, 1) and stream.color_trc not in (PQ, HLG)
    except (av.error.FFmpegError, OSError, ValueError):
        return False
