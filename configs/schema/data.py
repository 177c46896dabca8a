"""What the training data loader reads and how it draws samples. No torch import: `--help` stays fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class KnownCells:
    """Relative weights of the patterns of cells given to the model (`data.views.known_cells`)."""

    view: float = 1.0
    """The input view alone: a monocular video."""
    view_and_frame: float = 0.0
    """The input view and the first frame of every view, as SV4D is conditioned."""
    view_and_ends: float = 0.0
    """The input view and the first and last frame of every view: anchors of a dense window."""
    random: float = 0.0
    """Random cells."""
    random_share: float = 0.3
    """Probability of each cell in the random pattern."""


@dataclass(frozen=True)
class Augment:
    """Probability of each augmentation; the same change on every cell of a grid."""

    mirror: float = 0.5
    """Of left and right exchanged."""
    reverse: float = 0.5
    """Of time running backwards."""
    colour: float = 0.0
    """Of other colours."""
    colour_strength: float = 0.5
    """How far these may be from the true ones, 0 to 1 (a size, no probability)."""
    background: float = 0.0
    """Probability of a random background colour instead of white."""


@dataclass(frozen=True)
class OnTheFly:
    """How the endless stream renders assets (`data.live.stream`)."""

    orbit: Literal["static", "dynamic", "scattered"] = "static"
    """static: one elevation; dynamic: it wanders, and azimuths are jittered; scattered: two thirds of the views at
    elevations of the range below, about half of these at one, and the others from well below to well above it."""
    elevation_min: float = -5.0
    """Lowest elevation drawn for an orbit, degrees; a dynamic one wanders about what is drawn."""
    elevation_max: float = 30.0
    """Highest elevation drawn, degrees."""
    fov_min: float = 33.8
    """Smallest vertical field of view drawn for a grid, degrees: of the crop around the object, not of the video."""
    fov_max: float = 33.8
    """Largest field of view drawn."""
    azimuth: Literal["regular", "random", "arc"] = "regular"
    """Views at equal steps around the object; anywhere; or one after another on an arc, to the left or the right."""
    arc_min: float = 1.0
    """Of an arc: smallest angle drawn between neighbouring views, degrees, the same between all views of a grid."""
    arc_max: float = 8.0
    """Largest angle drawn."""
    fit: Literal["projected", "grow"] = "projected"
    """Camera distance: the smallest that shows the whole object, or SV4D's growing steps."""
    fps: float = 12.0
    """Frames per second at stride 1."""
    supersample: int = 1
    """Render at this many times the resolution and shrink; on top of 4 samples a pixel."""
    vary_light: bool = True
    """Another light direction and strength for each grid."""
    vary_colours: float = 0.0
    """Probability of new colours for the parts of an asset."""
    vary_proportions: float = 0.0
    """Probability of new bone lengths, left and right alike."""
    vary_poses: float = 0.0
    """Probability of a pose in which some joints are turned."""
    vary_stretch: float = 0.0
    """Probability of a new width, depth and height of the whole object."""
    vary_bend: float = 0.0
    """Probability that the whole object is bent by a smooth random field."""
    solid: bool = False
    """Carve what the object fills out of depth pictures from all views, for `loss.solid`."""
    room: float = 0.0
    """Probability that the asset stands in a room of random colours, with boxes: a background that shows parallax. Of
    cameras on an arc."""
    still: float = 0.0
    """Probability that nothing moves but the camera: all frames show one instant."""
    cached_assets: int = 64
    """Assets kept loaded in each worker."""
    smallest_cover: float = 0.01
    """Grids in which the object covers less than this share of the pixels are skipped."""


@dataclass(frozen=True)
class Kept:
    """Grids of the assets that are rendered once and drawn from again and again (`data.live.kept`)."""

    folder: str = ""
    """Where they are kept; nowhere: assets are rendered while training."""
    grids: int = 12000
    """So many."""
    seed: int = 0
    """Of what is random in them; what is drawn of them follows the run's seed."""
    views: int = 12
    """Of each; a draw shows `data.options.views` of them, the first from a usual elevation."""


@dataclass(frozen=True)
class DataConfig:
    """The data of a training run: up to five sources mixed by weight, one batch form."""

    shards: str = ""
    """Folder or glob of training shards (`viewtime encode`)."""
    assets: str = ""
    """Folder of animated GLB files, or the manifest that `viewtime curate` wrote: rendered while training. A caption
    is the manifest's, or the text of NAME.txt beside NAME.glb."""
    held_out: tuple[str, ...] = ()
    """Ids of assets (file names without ending) that training never sees."""
    held_out_list: str = ""
    """Preset or YAML file that names more of them, in groups (`configs/heldout/generalist.yaml`)."""
    held_out_only: bool = False
    """Stream the held-out assets alone: for validation."""
    videos: str = ""
    """Folder of ordinary videos, turned into pseudo-4D grids by 2D camera moves; NAME.txt beside NAME.mp4 is a
    video's caption."""
    static_videos: str = ""
    """Folder of videos in which the camera moves and nothing else does: each view of a grid is one of their frames, at
    all instants the same (4Real-Video's freeze-time videos)."""
    shard_weight: float = 1.0
    """Of the shards; a source is drawn from in proportion to its weight."""
    asset_weight: float = 1.0
    """Of the assets."""
    video_weight: float = 1.0
    """Of the videos."""
    static_weight: float = 1.0
    """Of the videos of static scenes."""
    creature_weight: float = 0.0
    """Of random procedural creatures (`data.creatures`), rendered while training; 0 leaves them out."""
    kind: Literal["pixels", "latents"] = "pixels"
    """What the model sees; latents come from shards alone."""
    channels: int = 4
    """Of a pixel model: 3 (RGB) or 4 (RGBA)."""
    views: int = 8
    """Of each grid, the input view among them."""
    frames: int = 5
    """Of each grid."""
    max_stride: int = 1
    """Largest step between drawn frames; 1 draws neighbours."""
    resolution: int = 64
    """Height of the frames in pixels; of shards, which keep their shape, the shorter side."""
    width: int | None = None
    """Width of the frames of assets and videos, at least the height; square where not given."""
    buckets: tuple[tuple[int, int, int], ...] = ()
    """Of shards: shapes of batches, each [frames, height, width] in pixels, in place of frames, resolution and width. A
    batch has one of them; a sample goes to the one nearest in aspect ratio, and the largest that it fills."""
    batch_size: int = 1
    """Grids in a batch; a run's stages set it."""
    workers: int = 2
    """Processes that load data; 0: the training process itself."""
    prefetch: int = 2
    """Batches each worker prepares ahead."""
    seed: int = 0
    """Of every random choice; a run sets it."""
    shuffle_shards: int = 4
    """Shards whose samples are mixed with each other at a time."""
    max_failed_share: float = 0.2
    """Stop when more than this share of the samples had to be skipped (counted after 50)."""
    kept: Kept = field(default_factory=Kept)
    known: KnownCells = field(default_factory=KnownCells)
    augment: Augment = field(default_factory=Augment)
    on_the_fly: OnTheFly = field(default_factory=OnTheFly)
