"""Options of `viewtime render`. No torch import: `--help` stays fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Framing:
    """Camera and timing choices, per clip (SV4D 3.1 and A.1)."""

    orbit: Literal["static", "dynamic", "both"] = "static"
    """static: regular azimuths, one elevation; dynamic: elevation wanders, azimuths are jittered."""
    orbits: int = 1
    """Samples (orbits) of each kind per clip."""
    elevation_min: float = -5.0
    """Lowest elevation drawn for an orbit, degrees; a dynamic one wanders about what is drawn."""
    elevation_max: float = 30.0
    """Highest elevation drawn, degrees."""
    fit: Literal["grow", "projected"] = "grow"
    """grow: the distance grows from `base_distance` until everything fits; projected: the smallest that fits."""
    base_distance: float = 2.0
    """First distance that `grow` tries; the longest side of the object over the clip is 1."""
    growth: float = 1.05
    """Factor by which `grow` steps back."""
    margin: float = 0.04
    """Share of the half image that stays empty at each side."""
    fov_y: float = 33.8
    """Vertical field of view, degrees."""
    base_fps: float = 24.0
    """Key frames are multiples of 1/base_fps seconds apart; a clip too short for that is spread evenly."""
    motion_threshold: float = 0.03
    """The step grows until consecutive key frames differ by this much (mean L1 over the object, 0 to 1)."""
    min_motion: float = 0.004
    """A clip that stays below this at its largest step is rejected."""


Device = Literal["cpu", "optix", "cuda", "hip", "metal", "oneapi"]


@dataclass(frozen=True)
class Quality:
    """Cycles only, except depth and normals."""

    samples: int = 16
    """Camera rays a pixel."""
    device: Device = "cpu"
    """Where Cycles renders. Workers take the machine's GPUs in turn: set --workers.count to how many there are."""
    denoise: bool = True
    """Run Blender's denoiser on each image."""
    world: str = "all"
    """HDRI light: all (of bpy's), names of them with commas, or a folder of .exr and .hdr files."""
    world_strength: float = 1.0
    """Factor on the light of the HDRI."""
    depth: bool = False
    """Also write depth.npz, float32 [V, F, H, W]: planar depth in world units, 0 beside the object."""
    normals: bool = False
    """Also write normals.npz, float16 [V, F, H, W, 3]: unit normals in world axes."""


@dataclass(frozen=True)
class Workers:
    """How the work is spread and what happens to what goes wrong."""

    count: int = 0
    """Worker processes on this machine, each pinned to its cores; 0: one per core."""
    timeout: float = 900.0
    """Seconds without a finished sample after which a worker is killed."""
    retries: int = 1
    """More attempts after a crash or timeout."""
    max_failures: float = 0.5
    """Share of failed samples above which the command fails."""


@dataclass(frozen=True)
class RenderConfig:
    """Render animated assets into grids of views × frames, one per clip and orbit. Resumes where it stopped."""

    source: Annotated[Path, tyro.conf.Positional]
    """A manifest of `viewtime curate`, a folder of assets, or one file (glb, gltf; fbx, blend with cycles)."""
    out: Path = Path("runs/render")
    """Folder for the grids, the contact sheets and report.json."""
    engine: Literal["cycles", "gl"] = "cycles"
    """cycles: path traced, data set quality; gl: hundreds of images a second."""
    views: int = 21
    """Cameras around the object."""
    frames: int = 21
    """Instants of the clip, each rendered from every camera."""
    size: int = 576
    """Pixels along each side."""
    seed: int = 0
    """Of every random choice: elevations, jitter, lights."""
    clips: list[str] = field(default_factory=list)
    """Names of the clips to render; all by default."""
    clips_per_asset: int = 0
    """At most so many clips of each asset, in the file's order; 0: all."""
    limit: int = 0
    """At most so many clips in all, in the order of the assets; 0: all. An FBX or Blender file that was not curated
    counts as one, as its clips are not known before Blender opens it."""
    sheets: int = 8
    """Contact sheets to write from the first samples."""
    ray: str | None = None
    """Address of a Ray cluster (or "local") whose nodes share this file system."""
    framing: Framing = field(default_factory=Framing)
    quality: Quality = field(default_factory=Quality)
    workers: Workers = field(default_factory=Workers)
