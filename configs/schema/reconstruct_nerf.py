"""Options of `viewtime reconstruct --method nerf`. Imports no torch, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class NerfLossWeights:
    """Weights of the losses (SV4D, A.5); the geometry losses need patches (`patches_per_step`).

    Attributes:
        mse: squared error of the colour on white.
        mask: squared error of the opacity.
        lpips: perceptual distance of whole patches; needs the package lpips and its weights.
        normal: 1 − cosine between rendered normals and those of the folder `normals`.
        depth: RegNeRF's smooth depth.
        bilateral: smooth normals where the picture is smooth.
    """

    mse: float = 1.0
    mask: float = 0.5
    lpips: float = 0.0
    normal: float = 0.0
    depth: float = 0.0
    bilateral: float = 0.0


@dataclass(frozen=True)
class NerfOptions:
    """Dynamic NeRF (SV4D, 3.2 and A.5).

    Attributes:
        levels: of the canonical hash grid.
        features: channels of each level.
        coarsest_resolution: vertices per axis of the first level.
        finest_resolution: vertices per axis of the last level.
        log2_table: levels of more than 2^this entries are hashed.
        width: of the density and colour MLPs.
        deformation: grid: a displacement grid per frame; mlp: the paper's MLP over position and time.
        deformation_resolutions: of the grids, coarse and fine.
        smoothness: weight of the grids' smoothness in space.
        inertia: weight of their smoothness in time, ten times as much at the start.
        deformation_width: neurons in each hidden layer of the MLP.
        deformation_depth: its number of hidden layers.
        space_octaves: frequencies of the position that the MLP sees.
        time_octaves: frequencies of the time that it sees, opened one by one.
        remainder_features: channels of a small grid per frame that adds to the canonical features what no
            deformation explains; 0 is the paper's model.
        remainder_resolution: vertices per axis of that grid.
        remainder_log2_table: it is hashed into 2^this entries, as the object fills a few per cent of the cube.
        remainder_decay: weight of the pull of the remainder towards zero.
        static_iterations: steps on the first frame alone.
        dynamic_iterations: steps on all frames.
        start_size: picture height of the first static steps; doubles until the grid's own.
        views_per_step: views of one step.
        frames_per_step: frames of one step, each in all of its views.
        rays_per_cell: random rays in each picture of a step.
        patches_per_step: square patches for the losses that need neighbours.
        patch: side of a patch, pixels.
        curriculum: frames enter one by one over the first 40 % of the dynamic stage.
        step: distance between samples along a ray, in pixels at the object's centre.
        samples: most samples on a ray.
        occupancy_resolution: voxels of the occupancy grid along the cube's side.
        occupancy_every: steps between its updates.
        hull_margin: pixels by which the masks are widened before they say where nothing is.
        learning_rate: of all parameters (A.5: 0.01); the deformation has its own share of it.
        normals: folder with view_000/frame_000.png, normals in camera axes (x right, y up, z to the camera) as
            colours; views numbered as in the whole grid.
    """

    levels: int = 8
    features: int = 2
    coarsest_resolution: int = 12
    finest_resolution: int = 128
    log2_table: int = 16
    width: int = 32
    deformation: Literal["grid", "mlp"] = "grid"
    deformation_resolutions: tuple[int, ...] = (10, 24)
    smoothness: float = 1.0
    inertia: float = 0.1
    deformation_width: int = 64
    deformation_depth: int = 3
    space_octaves: int = 4
    time_octaves: int = 5
    remainder_features: int = 4
    remainder_resolution: int = 40
    remainder_log2_table: int = 13
    remainder_decay: float = 1e-3
    static_iterations: int = 500
    dynamic_iterations: int = 5000
    start_size: int = 64
    views_per_step: int = 4
    frames_per_step: int = 4
    rays_per_cell: int = 64
    patches_per_step: int = 0
    patch: int = 8
    curriculum: bool = False
    step: float = 1.0
    samples: int = 48
    occupancy_resolution: int = 96
    occupancy_every: int = 250
    hull_margin: float = 1.0
    learning_rate: float = 1e-2
    normals: Path | None = None
    weights: NerfLossWeights = field(default_factory=NerfLossWeights)
