"""Held-out quality of reconstructions of ground-truth grids, against two things that need no 4D at all.

    python benchmarks/recon_table.py --assets FOLDER [--clips q_animals__Horse ...] [--methods gaussians mesh ...]
        [--preset quality] [--first 7 --static-iterations 200 --dynamic-iterations 600]

Renders 8 training and 4 held-out views of 21 frames with the project's own engine (once; kept in --results), fits the
training views, and prints means over the held-out cells: PSNR (picture and object crop), SSIM, mask IoU, flicker, wall
and CPU seconds of the fit, and peak memory. Each result is kept as a JSON file in --results, and a run goes on where
the last one stopped; --again measures anew.

`carving` is a voting hull per frame with the mean colour that the training views see at each voxel; `static` is an
independent fit per frame with as many pictures drawn in all as the 4D fit. `mesh` is the surface that
`viewtime reconstruct` exports, taken from the asset that `gaussians` left in --results; its seconds are those of the
export alone, `worst_iou` is its worst frame's, and `glb_mb` the file's size (`skin_mb` that of the skinned one). Its
pictures show the baked texture; `vertex_psnr` is that of the same surface with vertex colours. `wrong_edges` counts
edges that do not lie between two triangles, `normals` and `uvs` say whether the file has them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from recon_baselines import carving, static_per_frame
from recon_clips import CLIPS, FRAMES, orbit_of

from viewtime.configs.load import build, load_preset
from viewtime.configs.schema.reconstruct import ReconstructConfig
from viewtime.files import atomic_path
from viewtime.grid import FrameGrid
from viewtime.recon.export.glb import write_animated
from viewtime.recon.export.mesh_file import save_mesh
from viewtime.recon.fitting.score import scores
from viewtime.recon.fitting.targets import make_targets
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.gaussians.reconstruct import bake, fit_gaussians
from viewtime.recon.nerf.reconstruct import bake_nerf, fit_nerf
from viewtime.recon.surface.manifold import wrong_edges
from viewtime.recon.surface.mesh import MovingMesh
from viewtime.recon.surface.mesh_choice import best_mesh
from viewtime.recon.surface.raster import mesh_grid
from viewtime.render_objaverse.gltf import load_scene
from viewtime.sample.metrics.measures.image import mask_iou

Row = dict[str, float]
Method = Callable[[FrameGrid, FrameGrid, ReconstructConfig], Row]
HELD_OUT_START = 22.5  # degrees: half way between the training views
COLUMNS = (
    "psnr",
    "crop_psnr",
    "ssim",
    "iou",
    "flicker",
    "seconds",
    "cpu_seconds",
    "peak_mb",
    "worst_iou",
    "glb_mb",
    "skin_mb",
    "vertex_psnr",
    "wrong_edges",
    "normals",
    "uvs",
)


def deformable(train: FrameGrid, unseen: FrameGrid, config: ReconstructConfig) -> FrameGrid:
    """The 4D fit that `viewtime reconstruct` does; leaves the asset in `config.out` where that is given."""
    fit, _ = fit_gaussians(train, config)
    asset = bake(fit, train)
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
        asset.save(config.out)
    assert unseen.cameras is not None
    return asset.render_grid(unseen.cameras, *train.shape[3:])


def dynamic_nerf(train: FrameGrid, unseen: FrameGrid, config: ReconstructConfig) -> FrameGrid:
    """The fit of `viewtime reconstruct --method nerf`."""
    fit, _ = fit_nerf(train, config)
    assert unseen.cameras is not None
    return bake_nerf(fit, train).render_grid(unseen.cameras, *train.shape[3:])


def exported(train: FrameGrid, config: ReconstructConfig) -> MovingMesh:
    """The mesh of the asset in `config.out`, kept there and written as asset.glb (morph targets) and skinned.glb.

    Raises:
        UserError: `gaussians` has not been measured yet.
    """
    assert config.out is not None
    assert train.cameras is not None
    mesh, _ = best_mesh(GaussianAsset.load(config.out), make_targets(train), train.cameras, config.mesh)
    save_mesh(mesh, config.out)
    write_animated(mesh, config.out / "asset.glb", config.mesh)
    write_animated(mesh, config.out / "skinned.glb", dataclasses.replace(config.mesh, animation="skin"))
    return mesh


def mesh_row(train: FrameGrid, unseen: FrameGrid, config: ReconstructConfig) -> Row:
    """Scores of the exported mesh, with the two files' sizes in MB and the worst frame's IoU."""
    drawn: list[FrameGrid] = []
    meshes: list[MovingMesh] = []

    def work() -> FrameGrid:
        meshes.append(exported(train, config))
        drawn.append(mesh_grid(meshes[0], unseen.orbit, *train.shape[3:]))
        return drawn[0]

    row, folder = measured(work, unseen), config.out
    assert folder is not None
    row["worst_iou"] = float(mask_iou(drawn[0].frames, unseen.frames).mean(dim=0).min())
    for key, file in (("glb_mb", "asset.glb"), ("skin_mb", "skinned.glb")):
        row[key] = (folder / file).stat().st_size / 1e6
    plain = dataclasses.replace(meshes[0], texture=None)
    row["vertex_psnr"] = scores(mesh_grid(plain, unseen.orbit, *train.shape[3:]), unseen)["psnr"]
    row["wrong_edges"] = wrong_edges(meshes[0].triangles)
    (part,) = load_scene(folder / "asset.glb").parts
    row["normals"], row["uvs"] = float(np.abs(part.morph_normals).max() > 0), float(np.abs(part.uvs).max() > 0)
    return row


METHODS: dict[str, Method] = {
    "carving": lambda train, unseen, config: measured(lambda: carving(train, unseen), unseen),
    "static": lambda train, unseen, config: measured(lambda: static_per_frame(train, unseen, config), unseen),
    "gaussians": lambda train, unseen, config: measured(lambda: deformable(train, unseen, config), unseen),
    "nerf": lambda train, unseen, config: measured(lambda: dynamic_nerf(train, unseen, config), unseen),
    "mesh": mesh_row,
}


def measured(work: Callable[[], FrameGrid], unseen: FrameGrid) -> Row:
    """Scores with the wall and CPU seconds of making the cells, and the process's peak memory so far in MB."""
    wall, cpu = time.perf_counter(), time.process_time()
    rendered = work()
    spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**scores(rendered, unseen), **spent, "peak_mb": peak}


def line(name: str, method: str, row: Row) -> str:
    """One row of the printed table, in Markdown."""
    whole = ("seconds", "cpu_seconds", "peak_mb", "wrong_edges", "normals", "uvs")
    digits = {"ssim": 3, "iou": 3, "flicker": 4, "worst_iou": 3, **dict.fromkeys(whole, 0)}
    cells = [f"{row[key]:.{digits.get(key, 2)}f}" if key in row else "" for key in COLUMNS]
    return f"| {name} | {method} | " + " | ".join(cells) + " |"


def main() -> None:
    """Parse the command line, run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("VIEWTIME_ASSETS", "../shared/assets")))
    parser.add_argument("--clips", nargs="+", default=list(CLIPS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--first", type=int, default=FRAMES, help="fit only so many of the 21 frames")
    parser.add_argument("--preset", default="fast", help="of viewtime reconstruct")
    parser.add_argument("--static-iterations", type=int, help="of the Gaussians; default: the preset's")
    parser.add_argument("--dynamic-iterations", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of the fit")
    parser.add_argument("--results", type=Path, default=Path("runs/recon_table"))
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    preset = {**load_preset(options.preset), "grid": "grid", "seed": options.seed}
    for key in ("static_iterations", "dynamic_iterations"):
        if (value := getattr(options, key)) is not None:
            preset["gaussians"][key] = value
    config = build(ReconstructConfig, preset, where=options.preset)
    size = f"{options.first}-{config.gaussians.static_iterations}-{config.gaussians.dynamic_iterations}"
    size += f"-seed{options.seed}" if options.seed else ""
    rows: dict[tuple[str, str], Row] = {}
    for name in options.clips:
        for method in options.methods:
            kept = options.results / f"{name}-{method}-{size}.json"
            if options.again or not kept.is_file():
                train = orbit_of(options.assets, options.results, name, 8)[:, : options.first]
                unseen = orbit_of(options.assets, options.results, name, 4, start=HELD_OUT_START)[:, : options.first]
                asset = options.results / f"{name}-asset-{size}"
                row = METHODS[method](train, unseen, dataclasses.replace(config, out=asset))
                with atomic_path(kept) as path:
                    path.write_text(json.dumps(row, indent=1))
            rows[name, method] = json.loads(kept.read_text())
            print(line(name, method, rows[name, method]), flush=True)
    print(f"\n| clip | method | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 2)}")
    for method in options.methods:
        chosen = {name: rows[name, method] for name in options.clips}
        for name, row in chosen.items():
            print(line(name, method, row))
        shared = [key for key in COLUMNS if all(key in row for row in chosen.values())]
        means = {key: float(np.mean([row[key] for row in chosen.values()])) for key in shared}
        print(line("**mean**", method, means))


if __name__ == "__main__":
    main()
