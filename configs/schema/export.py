"""Options of `viewtime export`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .reconstruct import MeshOptions

Format = Literal[
    "glb", "fbx", "usd", "usdz", "alembic", "obj", "mesh_ply", "gaussian_ply", "spz", "splat", "orbit", "turntable",
    "webm", "depth", "normal", "view", "html", "colmap",
]  # fmt: skip


@dataclass(frozen=True)
class ExportConfig:
    """Write an asset folder, or a weight file (.safetensors, .ckpt, .pt), in another format.

    Attributes:
        source: an asset folder of `viewtime reconstruct`, or a weight file.
        out: folder (asset) or file (weights) to write; default: the asset folder itself.
        formats: meshes: glb (animated), fbx, usd, usdz and alembic (these through Blender, extra `render`), obj and
            mesh_ply (one file per frame); Gaussians: gaussian_ply, spz and splat (one file per frame); films: orbit,
            turntable (GIF), webm (with alpha), depth, normal, view (fixed camera at `azimuth`); html (a page that
            plays the asset); of a grid: colmap (one folder per frame), webm (one film per view).
        grid: the grid that the asset was fitted to; its masks refine the mesh.
        azimuth: of the fixed view, degrees.
        size: height and width of videos, pixels.
        layout: for weight files: stability (one file), viewtime (one file, our names), diffusers (a folder), or
            safetensors (a pickled .ckpt or .pt of any model: the same names, nothing of it runs).
        preset_of_weights: which model a weight file holds, where its header fits two.
    """

    source: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    formats: tuple[Format, ...] = ("glb",)
    grid: Path | None = None
    azimuth: float = 0.0
    size: int = 256
    mesh: MeshOptions = field(default_factory=MeshOptions)
    layout: Annotated[
        Literal["stability", "diffusers", "viewtime", "safetensors"], tyro.conf.arg(aliases=["--format"])
    ] = "diffusers"
    preset_of_weights: str | None = None
