"""`viewtime export`: an asset folder in other formats; weight files go to the networks' exporter."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

from einops import rearrange

from viewtime.configs.schema.export import ExportConfig, Format
from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.images import to_uint8
from viewtime.log import log
from viewtime.recon.distill.published.pickles import PICKLED, convert_pickle
from viewtime.recon.export.films import write_fixed_view, write_orbit
from viewtime.recon.export.glb import write_animated
from viewtime.recon.export.mesh_file import load_mesh
from viewtime.recon.export.placing import placed
from viewtime.recon.export.ply import write_gaussian_sequence, write_mesh_sequence
from viewtime.recon.export.web_page import write_page
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.interchange.blender import NAMES as BLENDER
from viewtime.recon.interchange.blender import write_through_blender
from viewtime.recon.interchange.colmap import write_colmap
from viewtime.recon.interchange.splat_files import KINDS as SPLATS
from viewtime.recon.interchange.splat_files import write_splat_sequence
from viewtime.recon.surface.mesh import MovingMesh, extract_mesh
from viewtime.recon.surface.mesh_choice import best_mesh
from viewtime.video import write_webm
from viewtime.where import find_asset, find_grid, grids_in, is_asset, is_grid

DEFAULT = MeshOptions()
FILES = (
    ".glb", ".gltf", ".fbx", ".usdc", ".usdz", ".abc", ".obj", ".ply", ".spz", ".splat", ".html", ".mp4", ".gif",
    ".webm",
)  # fmt: skip
MESHES = ("glb", "obj", "mesh_ply", "html", *BLENDER)
OF_GRIDS = ("colmap", "webm")


def run(config: ExportConfig) -> list[Path]:
    """Entry of the command; what the input is decides who exports it."""
    pickled = config.source.suffix in PICKLED
    if pickled or config.source.suffix == ".safetensors" or (config.source / "model_index.json").is_file():
        from viewtime.model.export_command import export_weights

        if config.out is None:
            raise UserError("exporting weights needs --out, a file or, for diffusers, a folder")
        if config.layout == "safetensors":
            return [_convert(config.source, config.out)]
        if pickled:
            raise UserError(
                f"{config.source} is a pickled checkpoint; --layout safetensors writes its tensors as they are named, "
                "and opens nothing in it but tensors"
            )
        return [export_weights(config.source, config.layout, config.out, config.preset_of_weights)]
    return export_asset(config)


def _convert(source: Path, out: Path) -> Path:
    if source.suffix not in PICKLED:
        raise UserError(f"{source} is no pickled checkpoint ({', '.join(PICKLED)}); it needs no --layout safetensors")
    return convert_pickle(source, out)


def export_asset(config: ExportConfig) -> list[Path]:
    """Write each wanted format beside the asset, or into `out`."""
    if not config.formats:
        raise UserError(f"nothing to export: --formats takes {', '.join(get_args(Format))}")
    if config.out is not None and config.out.suffix in FILES:
        raise UserError(f"--out {config.out} is named like a file; it is the folder that --formats go to")
    of_grids = set(config.formats) <= set(OF_GRIDS) and not is_asset(config.source)
    if is_grid(config.source) or (of_grids and grids_in(config.source)):
        return export_grid(dataclasses.replace(config, source=find_grid(config.source)))
    if "colmap" in config.formats:
        raise UserError(f"colmap folders are made of a grid, and {config.source} is none: give the grid's folder")
    config = dataclasses.replace(config, source=find_asset(config.source))
    asset = GaussianAsset.load(config.source)
    out = config.out or config.source
    out.mkdir(parents=True, exist_ok=True)
    mesh = _mesh(asset, config) if any(kind in MESHES for kind in config.formats) else None
    return [_write(kind, asset, mesh, out, config) for kind in config.formats]


def export_grid(config: ExportConfig) -> list[Path]:
    """COLMAP folders of a grid, and its views as films with alpha; beside the grid, or into `out`.

    Raises:
        UserError: a format that grids do not have, or no alpha to write.
    """
    others = [kind for kind in config.formats if kind not in OF_GRIDS]
    if others:
        raise UserError(
            f"{config.source} is a grid, which --formats {' '.join(others)} are not made of: "
            f"reconstruct it first; of grids there are {', '.join(OF_GRIDS)}"
        )
    grid = open_grid(config.source)
    out = config.out or config.source.with_name(f"{config.source.name}-export")
    paths = [write_colmap(grid, out / "colmap")] if "colmap" in config.formats else []
    if "webm" in config.formats:
        if not grid.has_alpha:
            raise UserError(
                f"{config.source} has no alpha: sample with a model that makes it (mini-generalist), or reconstruct "
                "the grid and export the asset's orbit"
            )
        rows = enumerate(rearrange(grid.frames, "v f c h w -> v f h w c"))
        paths += [write_webm(out / f"view_{view:03d}.webm", to_uint8(row), grid.fps) for view, row in rows]
    return paths


def _mesh(asset: GaussianAsset, config: ExportConfig) -> MovingMesh:
    """Made anew against the grid where that is given; else what `reconstruct` left, at the options' defaults."""
    if config.grid is None:
        kept = load_mesh(config.source)
        if kept is not None and (config.mesh.faces, config.mesh.resolution) == (DEFAULT.faces, DEFAULT.resolution):
            return kept if config.mesh.colours == "texture" else dataclasses.replace(kept, texture=None)
        log.warning("no --grid: the mesh is neither refined against masks nor painted from pictures")
        return extract_mesh(asset, resolution=config.mesh.resolution, faces=config.mesh.faces)
    grid = open_grid(config.grid)
    return best_mesh(asset, make_targets(grid), grid.orbit, config.mesh)[0]


def _write(kind: str, asset: GaussianAsset, mesh: MovingMesh | None, out: Path, config: ExportConfig) -> Path:
    if mesh is not None:
        if kind == "glb":
            return write_animated(mesh, out / "asset.glb", config.mesh)
        if kind == "html":
            return write_page(mesh, out / "asset.html", asset)
        if kind in BLENDER:
            return write_through_blender(mesh, out, kind, config.mesh)
        if kind in ("obj", "mesh_ply"):
            return write_mesh_sequence(
                placed(mesh, config.mesh), out / f"mesh_{kind.removeprefix('mesh_')}", kind.removeprefix("mesh_")
            )
    if kind == "gaussian_ply":
        return write_gaussian_sequence(asset, out / "gaussian_ply")
    if kind in SPLATS:
        return write_splat_sequence(asset, out / kind, kind)
    if kind == "view":
        return write_fixed_view(asset, out / f"view_{config.azimuth:g}.mp4", config.azimuth, config.size)
    names = {"turntable": "turntable.gif", "webm": "orbit.webm"}
    shown = kind if kind in ("depth", "normal") else "colour"
    return write_orbit(asset, out / names.get(kind, f"{kind}.mp4"), size=config.size, kind=shown)
