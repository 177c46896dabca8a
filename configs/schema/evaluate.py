"""Options of `viewtime evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Metric = Literal[
    "psnr", "object_crop_psnr", "foreground_psnr", "ssim", "lpips", "st_lpips", "lpips_star", "clip_s", "mask_iou",
    "flicker", "fvd_f", "fvd_v", "fvd_diag", "fv4d",
]  # fmt: skip


@dataclass(frozen=True)
class EvaluateConfig:
    """Compare grids with the truth: image metrics, SV4D's four Fréchet video distances, 4Real-Video's protocol."""

    pred: list[Path] = field(default_factory=list)
    """Grids to score: grid folders, or one folder that holds several (matched with --gt by name)."""

    gt: list[Path] = field(default_factory=list)
    """Their truth, in the same order or by the same names."""

    asset: list[Path] = field(default_factory=list)
    """Animated GLBs, one per truth: rendered from the truth's cameras and scored in a table of their own."""

    mesh: list[Path] = field(default_factory=list)
    """Moving surfaces for ActionBench's CD-3D, CD-4D and CD-M: animated GLBs, folders of one GLB per instant, or one
    folder that holds several such folders (matched with --mesh-truth by name)."""

    mesh_truth: list[Path] = field(default_factory=list)
    """Their truth, in the same order or by the same names: the same, or folders with a surfaces.npy."""

    mesh_instants: int = 16
    """Moments of the motion that are compared; of a surfaces.npy all that it has."""

    mesh_points: int = 100_000
    """Points that are drawn of each surface."""

    mesh_align_points: int = 10_000
    """Points that are aligned; the time of a run on the CPU is nearly all spent on them."""

    out: Path = Path("runs/evaluate")
    """Run folder for the tables and pictures."""

    table: Literal["sv4d-1", "sv4d-2", "sv4d-3", "sv4d-4", "4real"] | None = None
    """Measure as a table of a paper does: sets its metrics and networks, prints the paper's row beside ours."""

    metrics: list[Metric] = field(default_factory=list)
    """What to measure; naming a metric makes its absence an error. Default: all that can be."""

    network: Literal["filter-bank", "i3d", "r3d", "s3d"] = "filter-bank"
    """Feature network of the Fréchet distances; those of the filter bank are named with a star."""

    network_weights: Path | None = None
    """I3D: the TorchScript file. R3D, S3D: a state dict; without it torchvision downloads them."""

    lpips_net: Literal["alex", "vgg", "squeeze"] = "alex"
    """Backbone of LPIPS."""

    clip_model: str = "ViT-B-32"
    """Model of CLIP-S, by open_clip's name."""

    clip_weights: str = "openai"
    """Weights of CLIP-S: open_clip's name for them, or a file."""

    prompt: list[str] = field(default_factory=list)
    """CLIP score of each --pred GRID with its text, over the orbit that turns while time passes; needs no truth."""

    offline: bool = False
    """Never download weights; use only what is on this machine."""

    device: str | None = None
    """Where networks run: cpu, cuda, cuda:1, …; default: cuda where there is one."""

    all_cells: bool = False
    """Score also the cells that the prediction was given as input."""

    background: float = 1.0
    """Grey level under transparent pixels, 0 to 1."""

    resize: bool = False
    """Resample predictions to the truth's size instead of refusing."""

    intersect: bool = False
    """Keep the views, instants and names that both sides have instead of refusing."""

    relative_azimuth: bool = False
    """Measure azimuths from view 0 of each grid."""

    clip_frames: int | None = None
    """Cut every path into clips of that many cells; default: the paths' clips whole."""

    clip_stride: int | None = None
    """Cells between the starts of two clips; default: --clip-frames."""

    wrap_views: bool = False
    """FVD-V: let an orbit of fewer views than the network takes (I3D: 10) go on from its first view."""

    bootstrap: int = 200
    """Resamplings of the pairs for the 95 % intervals; 0: none."""

    seed: int = 0
    """Of the resampling, and of the points drawn of meshes."""

    four_real: bool = False
    """Also 4Real-Video's protocol, which needs no truth."""

    real_videos: Path | None = None
    """Folder of real videos for its FVD and FID."""

    fid_weights: Path | None = None
    """Inception v3 as the TorchScript file inception-2015-12-05.pt, for its FID."""

    confidence_plugin: list[str] = field(default_factory=list)
    """Matchers or reconstructors for its confidence ratios, as MODULE:NAME."""
