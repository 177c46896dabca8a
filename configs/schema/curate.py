"""`viewtime curate SOURCE`: which assets may train a model, with a reason for every other one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro


@dataclass(frozen=True)
class CurationLimits:
    """What an asset must be. The filters apply in this order."""

    licences: tuple[str, ...] = ("CC0", "CC-BY", "CC-BY-SA", "MIT", "Apache", "BSD")
    """Allowed licence families, in any spelling; versions do not matter. All of these allow changes and training; their
    notices are kept with the weights."""
    min_frames: int = 8
    """Animated frames, at 24 a second, of at least one clip: a beat of wings is shorter than half a second."""
    min_displacement: float = 0.03
    """Largest movement of a vertex, as a share of the bounding box's diagonal."""
    min_pixel_motion: float = 0.015
    """Largest L1 distance between key renders, of [0, 1], over the object's pixels; 0 renders nothing."""
    max_mb: float = 200.0
    """Larger files are never opened."""
    max_triangles: int = 1_000_000
    """Assets of more are rejected."""
    max_vertices: int = 1_000_000
    """Assets of more are rejected."""
    max_clips: int = 200
    """Clips of one file that are looked at."""
    timeout_s: float = 60.0
    """Processor time for reading one file; reading FBX and Blender files gets ten times as long."""
    memory_gb: float = 4.0
    """Address space for reading one file."""


@dataclass(frozen=True)
class CurateConfig:
    """Decide which assets may train a model; write a manifest with every decision and its reason."""

    source: Annotated[str, tyro.conf.Positional]
    """Folder of glb, gltf, fbx or blend files; objaverse:ID,ID… or objaverse:FILE with one id a line; or
    objaverse-xl:TABLE, a parquet or CSV file in the layout of Objaverse-XL's annotations."""
    out: str = "runs/curate"
    """Folder for manifest.jsonl and summary.json; a run that was cut off continues there."""
    licence: str | None = None
    """Licence of the folder's files that no table names."""
    licence_table: str | None = None
    """JSON table of licences by file; licences.json or INDEX.json in the folder where not given."""
    animated: str | None = None
    """List of the animated objects of Objaverse-XL, one fileIdentifier, sha256 or uid a line: no others are
    downloaded."""
    limit: int = 0
    """At most so many assets, in the source's order; 0: all. A larger one goes on."""
    workers: int = 2
    """Files read at the same time, each in a process of its own."""
    max_failed_share: float = 0.5
    """Exit with failure when more than this share could not be had at all (downloads)."""
    limits: CurationLimits = field(default_factory=CurationLimits)
