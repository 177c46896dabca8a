"""Limits of the curation filters, as the guarded process needs them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What an asset must be to train a model; see `configs.curate.CurationLimits` for the words to users."""

    min_frames: int
    min_displacement: float
    min_pixel_motion: float
    max_mb: float
    max_triangles: int
    max_vertices: int
    max_clips: int
