"""Options of `viewtime reconstruct`. Imports no torch, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .reconstruct_nerf import NerfOptions
from .reconstruct_scene import SceneOptions


@dataclass(frozen=True)
class InitOptions:
    """Where the first Gaussians come from.

    Attributes:
        source: hull: the voting hull of the masks at the canonical frame; points: the file `points`; random: in the
            cube that the cameras see; asset: the folder `asset`.
        points: .npy [N, 3], .ply or .npz (key `positions`, optional `colours` in 0..1), world units. An .npz may hold
            `tracks` [F, N, 3] instead, the paths of the points over the frames: they start the motion too.
        asset: folder of a Gaussian asset, as `--method direct` writes it, for `source` asset: its Gaussians and their
            paths; where they are fewer than twice `gaussians.count`, the largest are split.
        resolution: voxels along the longest side of the hull.
    """

    source: Literal["hull", "points", "random", "asset"] = "hull"
    points: Path | None = None
    asset: Path | None = None
    resolution: int = 96


@dataclass(frozen=True)
class GaussianOptions:
    """Deformable Gaussians (4Real-Video, supplement 6).

    Attributes:
        count: number of Gaussians at the start.
        isotropic: one size per Gaussian, as 4Real-Video has it; faster, but thin parts are lost.
        motion: control points with rotation-aware smoothness, an MLP over position and time (the paper's), or a free
            displacement per Gaussian and frame.
        control_points: their number, for `motion` control_points.
        static_iterations: steps on the canonical frame alone; 0 fits all frames jointly from the start.
        dynamic_iterations: steps on all frames.
        frames_per_step: frames that one step renders.
        views_per_step: views in which it renders each of them.
        curriculum: frames enter one by one over the first 40 % of the dynamic stage.
        densify: number of times the Gaussians with the largest image gradient are split during the dynamic stage.
        prune_opacity: Gaussians below this opacity are dropped (boundary floaters).
        learning_rate: factor on all learning rates.
    """

    count: int = 2000
    isotropic: bool = False
    motion: Literal["control_points", "mlp", "free"] = "control_points"
    control_points: int = 200
    static_iterations: int = 400
    dynamic_iterations: int = 2000
    frames_per_step: int = 4
    views_per_step: int = 2
    curriculum: bool = True
    densify: int = 0
    prune_opacity: float = 0.03
    learning_rate: float = 1.0


@dataclass(frozen=True)
class ImperfectOptions:
    """Remedies for generated views, which never agree fully; each can be switched by itself.

    Attributes:
        offset: learn a shift (pixels) and scale per image.
        exposure: learn a gain per image.
        view_deformation: learn a displacement per view, Δp = Δp_v + Δp_t (4Real-Video, Eq. 11).
        robust: a loss that grows slowly for large errors.
        view_weighting: cells that agree less with the fit weigh less.
        two_stage: half of the iterations learn the offsets and gains, the pictures are corrected by them, and the other
            half fits the corrected pictures anew, from a hull that agrees (after SV4D 2.0); needs offset or exposure.
    """

    offset: bool = False
    exposure: bool = False
    view_deformation: bool = False
    robust: bool = False
    view_weighting: bool = False
    two_stage: bool = False


@dataclass(frozen=True)
class MeshOptions:
    """The exported surface.

    Attributes:
        enabled: write asset.glb.
        faces: about half as many vertices; the surface is decimated to this number of triangles.
        resolution: voxels along the longest side for marching cubes.
        refine_iterations: steps that move the vertices onto the masks; 0 leaves the surface as extracted.
        colours: texture: a picture baked from all views and frames; vertices: the vertex colours that reproduce them
            best; gaussians: vertex colours of the Gaussians around.
        texture_size: of the texture's sides, pixels, for `colours` texture.
        animation: morphs: a morph target per frame, exact; skin: joints that carry the surface, several times smaller.
        joints: their number, for `animation` skin.
        origin: where exported meshes have their zero: centre: of the cameras' orbit; feet: under the middle of the
            first frame, at the lowest point of the clip.
        height: of the object in the first frame, metres; default: as the cameras' world has it, about 1.
        fps: frames a second of exported meshes, between which the surface moves smoothly; default: the grid's.
    """

    enabled: bool = True
    faces: int = 10000
    resolution: int = 192
    refine_iterations: int = 10
    colours: Literal["texture", "vertices", "gaussians"] = "texture"
    texture_size: int = 512
    animation: Literal["morphs", "skin"] = "morphs"
    joints: int = 60
    origin: Literal["centre", "feet"] = "centre"
    height: float | None = None
    fps: float | None = None


@dataclass(frozen=True)
class DirectOptions:
    """An asset without a fit, from what a generator sees in the grid's input view.

    Attributes:
        weights: of a mini model with a solid.
        cells: along a picture's side; each cell of a solid's shell becomes a Gaussian.
    """

    weights: str = "mini-generalist"
    cells: int = 64


@dataclass(frozen=True)
class ReconstructConfig:
    """Fit a grid of views × frames with a 4D asset: deformable Gaussians or a dynamic NeRF.

    Many grids: --grids FOLDER (see --grids --help).

    Attributes:
        grid: a grid folder, or a folder in D-NeRF/nerfstudio form.
        out: folder to write; default: GRID-asset beside the grid.
        preset: fast, quality, sv4d-nerf or scene, or a YAML file of these options.
        method: gaussians (default), nerf, direct: the generator's own solids, in seconds and without a fit, or scene:
            whole pictures with a background, from cameras that stand anywhere.
        held_out: views left out of the fit, for the scores in metrics.json.
        resume: go on from the state in `out`, if there is one; --no-resume starts anew.
        save_every: steps between saved states and preview images.
        early_stop: end the dynamic stage when the training PSNR has not risen by 0.02 dB over this share of it;
            0 never.
        orbit_seconds: length of the orbit video; 0 writes none.
        seed: of every random choice.
        device: cpu or cuda, where the fit runs; default: cuda where there is one.
    """

    grid: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    preset: str = "fast"
    method: Literal["gaussians", "nerf", "direct", "scene"] = "gaussians"
    init: InitOptions = field(default_factory=InitOptions)
    gaussians: GaussianOptions = field(default_factory=GaussianOptions)
    nerf: NerfOptions = field(default_factory=NerfOptions)
    scene: SceneOptions = field(default_factory=SceneOptions)
    direct: DirectOptions = field(default_factory=DirectOptions)
    imperfect: ImperfectOptions = field(default_factory=ImperfectOptions)
    mesh: MeshOptions = field(default_factory=MeshOptions)
    held_out: tuple[int, ...] = ()
    resume: bool = True
    save_every: int = 200
    early_stop: float = 0.0
    orbit_seconds: float = 4.0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
