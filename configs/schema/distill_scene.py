"""Options of what `viewtime distill` shapes: the field, its background, and how it is rendered. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TINY_CUDA_NN_GROWTH = 1.447269237440378


@dataclass(frozen=True)
class FieldOptions:
    """Density and colour over space and time, in the cube [-1, 1]³.

    Attributes:
        kind: hash: a hash grid with a density and a colour MLP, volume-rendered; gaussians: splats.
        motion: grid: a second grid over space and time whose features are added (4D-fy); offset: a displacement out of
            such a grid (4D-fy's variant); warp: the same, squashed, scaled and clamped, over a frozen field
            (Dream-in-4D).
        levels: of the grid over space.
        features: channels of each level, of both grids.
        coarsest: of the grid over space: cells along an edge at the first level, and one more.
        growth: factor from level to level, of both grids.
        log2_table: entries of a level at most, as a power of two, of both grids.
        width: neurons in a hidden layer of every MLP.
        motion_levels: of the grid over space and time.
        motion_coarsest: as `coarsest`, of the grid over space and time.
        motion_layers: hidden layers of the MLP that makes a displacement.
        motion_input: what that MLP sees: hash, a grid over space and time, or waves, sines of both (for comparison).
        first_levels: levels of the grid over space and time that are open at the start; 0: all.
        level_every: steps until one more opens.
        enlarge: factor by which the warp enlarges the object.
        gaussians: their number, for kind gaussians.
    """

    kind: Literal["hash", "gaussians"] = "hash"
    motion: Literal["grid", "offset", "warp"] = "grid"
    levels: int = 16
    features: int = 2
    coarsest: int = 16
    growth: float = TINY_CUDA_NN_GROWTH
    log2_table: int = 19
    width: int = 64
    motion_levels: int = 16
    motion_coarsest: int = 16
    motion_layers: int = 4
    motion_input: Literal["hash", "waves"] = "hash"
    first_levels: int = 0
    level_every: int = 500
    enlarge: float = 1.0
    gaussians: int = 4000


@dataclass(frozen=True)
class BackgroundOptions:
    """What is seen past the object.

    Attributes:
        kind: learned: an MLP over the direction; white.
        layers: hidden layers of the MLP.
        width: neurons in each of them.
        random: probability that a picture is shown over one random colour instead.
        per_frame: whether that is drawn for every frame of a video by itself.
    """

    kind: Literal["learned", "white"] = "learned"
    layers: int = 2
    width: int = 16
    random: float = 0.5
    per_frame: bool = False


@dataclass(frozen=True)
class RenderOptions:
    """How pictures are made of the field.

    Attributes:
        samples: along the diagonal of the cube; sets the distance between two.
        occupancy: voxels along an edge of the grid that says where to look.
        occupancy_every: steps between its updates.
        occupancy_times: instants of which the densest counts; 1: one at random.
        thin: samples that stop less of the light than this are left out, after a look at the density alone.
        at_once: rays that carry gradients at one time; where a step has more, it is rendered twice, the second time
            part by part in the backward pass, with the same result. 0: all.
    """

    samples: int = 512
    occupancy: int = 32
    occupancy_every: int = 16
    occupancy_times: int = 1
    thin: float = 0.01
    at_once: int = 0
