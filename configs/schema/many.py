"""Options of `viewtime sample --videos FOLDER` and `viewtime reconstruct --grids FOLDER`. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ManySamples:
    """Every video of a folder through `viewtime sample`, whose other options follow as usual. Resumes where it stopped.

    Attributes:
        videos: folder of video files, animations and folders of pictures.
        out: folder of the run folders, one per video, many.jsonl (what became of each) and many.md (the table).
        jobs: videos at a time, each in a process of its own with its share of the cores.
        ray: address of a Ray cluster (or "local") whose nodes see the same files; it then counts the jobs.
        max_failed_share: fail when more than this share of the videos failed.
    """

    videos: Path
    out: Path = Path("outputs")
    jobs: int = 1
    ray: str | None = None
    max_failed_share: float = 0.5


@dataclass(frozen=True)
class ManyReconstructions:
    """Every grid below a folder through `viewtime reconstruct`, whose other options follow. Resumes where it stopped.

    Attributes:
        grids: folder with grid folders at any depth.
        out: folder of the assets, one per grid, many.jsonl (what became of each) and many.md (the table).
        jobs: grids at a time, each in a process of its own with its share of the cores.
        ray: address of a Ray cluster (or "local") whose nodes see the same files; it then counts the jobs.
        max_failed_share: fail when more than this share of the grids failed.
    """

    grids: Path
    out: Path = Path("outputs/assets")
    jobs: int = 1
    ray: str | None = None
    max_failed_share: float = 0.5
