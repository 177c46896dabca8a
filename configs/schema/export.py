"""Options of `viewtime export`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from viewtime.configs.command import parse

from .reconstruct import MeshOptions

Layout = Literal["stability", "diffusers", "viewtime", "safetensors"]
Format = Literal[
    "glb", "fbx", "usd", "usdz", "alembic", "obj", "mesh_ply", "gaussian_ply", "spz", "splat", "orbit", "turntable",
    "webm", "depth", "normal", "view", "html", "colmap",
]  # fmt: skip


@dataclass(frozen=True)
class ExportConfig:
    """Write an asset folder, a grid, or a weight file (.safetensors, .ckpt, .pt), in another format.

    Attributes:
        source: an asset folder of `viewtime reconstruct`, a grid folder (for colmap and webm), or a weight file.
        out: folder (asset, grid) or file (weights) to write; default: the asset folder itself, or GRID-export.
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
    layout: Layout = "diffusers"
    preset_of_weights: str | None = None

    @staticmethod
    def from_argv(argv: list[str], prog: str) -> ExportConfig:
        """Read the command line; `--format` means `--layout` before a layout's name and else `--formats`."""
        words = []
        for number, word in enumerate(argv):
            name, equals, value = word.partition("=")
            if name != "--format":
                words.append(word)
                continue
            first = value if equals else "".join(argv[number + 1 : number + 2])
            words += ["--layout" if first in get_args(Layout) else "--formats", *([value] if equals else [])]
        return parse(ExportConfig, words, prog, "export")
