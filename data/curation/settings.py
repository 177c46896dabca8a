"""Limits of the curation filters."""

from __future__ import annotations

from dataclasses import dataclass

from viewtime.data.curation.licences import DEFAULT_ALLOWED


@dataclass(frozen=True)
class Limits:
    """What an asset must be to train a model.

    Attributes:
        licences: allowed licence families (`licences.family`).
        min_frames: animated frames at 24 per second of at least one clip.
        min_displacement: largest vertex displacement, in bounding-box diagonals (the cheap motion measure).
        min_pixel_motion: largest L1 distance between key renders (`pixel_motion`), the paper's measure.
        max_mb: file size in megabytes (10^6 bytes); larger files are never opened.
        max_triangles, max_vertices: over all drawn parts.
        timeout_s, memory_gb: for reading one file.
    """

    licences: tuple[str, ...] = DEFAULT_ALLOWED
    min_frames: int = 10
    min_displacement: float = 0.03
    min_pixel_motion: float = 0.02
    max_mb: float = 200.0
    max_triangles: int = 1_000_000
    max_vertices: int = 1_000_000
    timeout_s: float = 60.0
    memory_gb: float = 4.0
