"""Options of `viewtime sample` and `python sample.py`. Imports no torch, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class CameraOptions:
    """Cameras of the views to make. Degrees; azimuth relative to the input view, counter-clockwise from above.

    Attributes:
        elevation: of the input view and of all others; default: what the model was made for.
        elevations: one per row (the input view first), in place of `elevation`.
        azimuths: one per novel view; default: what the model was made for, or evenly around.
        orbit: static; dynamic (every view turns by `turn` over the video); spiral (dynamic, and the elevation
            swings by `swing` once over the video).
        turn: degrees a view travels over the whole video in a dynamic or spiral orbit.
        swing: degrees the elevation swings up and down in a spiral orbit.
        distance: of the cameras from the object, whose size is 1. A single video cannot tell it; the model does not
            see it, reconstruction and comparison with a truth do.
        trajectory: JSON file with elevation and azimuth per row (or per row and frame), in place of all above.
    """

    elevation: float | None = None
    elevations: tuple[float, ...] = ()
    azimuths: tuple[float, ...] = ()
    orbit: Literal["static", "dynamic", "spiral"] = "static"
    turn: float = 360.0
    swing: float = 15.0
    distance: float = 2.0
    trajectory: str | None = None


@dataclass(frozen=True)
class PreprocessOptions:
    """From any video to RGBA cells.

    Attributes:
        background: how the object is told from the background, where no `--mask` is given. auto: alpha where there is
            any, otherwise a plain background is keyed, otherwise a matting network and what moves; key: keyed even if
            there is alpha; remove: the network always; keep: the whole picture is the object.
        network: that tells the object from the background: u2netp, which ships, or one of rembg's whose file lies in
            ~/.u2net (u2net, isnet-general-use, birefnet-general-lite, birefnet-general); default: the best that is
            there.
        tolerance: largest colour distance (0..1, per channel) that still counts as background.
        crop: video: one crop for the whole video, so that motion across the picture stays; frame: each frame is
            centred by itself and the offsets are recorded; none: the whole picture, padded to the cell's shape;
            fill: the largest part of the picture that has the cell's shape, about its centre; published: as the
            published SV4D scripts do, one square about the middle of the picture, white left opaque.
        object_share: share of the cell's side that the object's bounding box fills; default: the model's.
        fps: frame rate to resample to, lower to reach further into a long video; default: the video's own.
    """

    background: Literal["auto", "key", "remove", "keep"] = "auto"
    network: str | None = None
    tolerance: float = 0.06
    crop: Literal["video", "frame", "none", "fill", "published"] = "video"
    object_share: float | None = None
    fps: float | None = None


@dataclass(frozen=True)
class SamplerOptions:
    """Sampler, schedule and guidance; defaults that are None come with the model.

    Attributes:
        name: of the method that solves the sampling equation.
        steps: of the schedule; more are slower and finer.
        levels: noise levels of the steps, falling, in place of the model's own for so many `steps`
            (`benchmarks/solver_ladder.py` makes them for a denoiser).
        guidance: course of the guidance scale over the cells, between `guidance_low` and `guidance_high`.
        guidance_low: smallest scale of classifier-free guidance.
        guidance_high: largest scale.
        guidance_interval: noise levels between which to guide.
        cache: reuse predictions to save network evaluations; see `benchmarks/sampling_speedups.py` for the cost.
        sigma_max: highest noise level of the EDM ladder; default: 700, or what the weight file says.
        sigma_min: lowest noise level before 0; default: 0.002, or what the weight file says.
        shift: time shift of the flow schedule; above 1 spends more steps at high noise.
        frame_noise: whether the frames of a view start from the same noise; default: independent, or what the weight
            file says.
        alpha_range: alpha of the result that becomes 0 and 1, for models that make alpha. Few steps predict a mean over
            the shapes that are possible, half transparent wherever they differ; 0.3 0.4 decides it.
    """

    name: Literal["euler", "heun", "midpoint", "dpmpp-2m"] | None = None
    steps: int | None = None
    levels: tuple[float, ...] = ()
    guidance: Literal["none", "constant", "linear", "triangle", "trapezoid", "spatio-temporal"] | None = None
    guidance_low: float | None = None
    guidance_high: float | None = None
    guidance_interval: tuple[float, float] | None = None
    cache: Literal["none", "guidance", "steps"] = "none"
    sigma_max: float | None = None
    sigma_min: float | None = None
    shift: float | None = None
    frame_noise: Literal["independent", "shared"] | None = None
    alpha_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class PlanOptions:
    """Which cells are sampled together.

    Attributes:
        kind: default: the plan the model was made for. sv4d-apart: sv4d with dense windows that do not wait for each
            other, for several GPUs. anchors-linear, anchors-flow: the paper's comparison, every few frames sampled and
            the rest interpolated.
        overlap: views or frames that consecutive sliding windows share.
        window_views: most views in a window; default: what the model takes, or what its own plan does.
        window_frames: most frames in a window; default: likewise.
    """

    kind: (
        Literal[
            "joint", "sv4d", "sv4d-apart", "independent", "interleaved", "sv4d2", "autoregressive", "anchors-linear",
            "anchors-flow",
        ]
        | None
    ) = None  # fmt: skip
    overlap: int = 1
    window_views: int | None = None
    window_frames: int | None = None


@dataclass(frozen=True)
class ReferenceOptions:
    """Reference views of frame 0, which SV4D needs.

    Attributes:
        weights: SV3D weights that make them: a file, or a name as `--weights` takes it.
        orbit: a folder or video of the user's own views of frame 0 in place of SV3D, one image per novel view.
    """

    weights: str | None = None
    orbit: str | None = None


@dataclass(frozen=True)
class TextOptions:
    """What the grid shows, for models with text (4real).

    Attributes:
        prompt: one sentence; empty gives the model no text.
        weights: open_clip's text encoder that the model was trained with, a safetensors file; its image half is not
            read.
        architecture: of that encoder, a name of open_clip.
    """

    prompt: str = ""
    weights: str | None = None
    architecture: str = "ViT-L-14-quickgelu"


@dataclass(frozen=True)
class UpsampleOptions:
    """How `--upsampler` enlarges the finished grid.

    Attributes:
        steps: of its sampler.
        window: views and frames enlarged together; less takes less memory.
        overlap: views or frames that neighbouring windows share.
    """

    steps: int = 8
    window: int = 8
    overlap: int = 2


@dataclass(frozen=True)
class MemoryOptions:
    """What to turn when memory runs out.

    Attributes:
        card: memory of the GPU in GB, 8, 12, 24 or 80: sets all of the below, and smaller windows where needed, for
            the published models at 576 pixels.
        batch_windows: windows that do not depend on each other, sampled in one batch.
        chunk: frames encoded or decoded at a time.
        offload: keep the parts of the model on the CPU until they are used.
        split_guidance: evaluate guidance's two branches one after the other.
    """

    card: Literal[8, 12, 24, 80] | None = None
    batch_windows: int = 1
    chunk: int = 8
    offload: bool = False
    split_guidance: bool = False


@dataclass(frozen=True)
class SampleConfig:
    """One video in, a grid of views × frames out. A folder of videos: --videos FOLDER (see --videos --help).

    Attributes:
        video: video file, folder of images, or quoted glob.
        mask: masks of the video's object, one per frame: a video, a folder of PNGs, a quoted glob, or an NPZ (SAM 2's
            masks or logits); they win over `--preprocess.background`.
        freeze_video: video of the first instant that moves around the object, beginning at the input view: the
            grid's first column, which 4real needs; --views takes that many of its frames.
        out: run folder; default: outputs/NAME_OF_THE_VIDEO.
        preset: YAML file or preset name with other defaults for these options.
        weights: "mini-generalist" (any object), "mini" (two small humanoids), a weight file, a folder of one, a
            published name (sv4d2, stabilityai/sv4d2.0), or a hub's:
            hf://OWNER/NAME@REVISION:FILE#sha256=…; what is downloaded is kept.
        offline: download nothing; `HF_HUB_OFFLINE=1` does the same.
        model: what the weight file must hold (sv4d2 and sv4d2-8views cannot be told apart by their tensors).
        views: number of novel views; default: what the model was made for.
        frames: use at most that many frames, from the video's start, counted at the rate of --preprocess.fps: 12 of
            them are 0.4 seconds of a film of 30 a second, and two seconds at --preprocess.fps 6.
        size: height of a cell in pixels, where the model leaves a choice.
        upsampler: weights of a 4real-upsampler: a second pass enlarges the grid; the small one is kept beside it.
        seed: the same seed gives the same grid on any number of processes.
        device: cpu, cuda, cuda:1, …; default: cuda where there is one.
        dtype: number format of all weights; default: float32 on the CPU, on CUDA what each part loses least by
            (float16 networks, float32 VAE).
        int8: hold the large layers of network and image encoder in 8 bits, widened as they are used: less memory.
        attention: library of the attention layers; reference is slow and exact.
        compile: compile the network before sampling; pays over many windows.
        show_plan: print the plan, draw it as plan.png, and stop.
        asset: also write the 4D asset that a mini model's solids are already, without a fit: Gaussians, GLB, a page
            that plays it, an orbit video (as `viewtime reconstruct --method direct` does).
        save: what to write beside the grid folder's own videos, for each view: mp4, gif or png (lossless RGBA).
        dnerf: also write the grid in D-NeRF form.
        stream: write each cell as a PNG as soon as it is final.
        keep_windows: keep the sampled windows, so that a run with more outputs need not sample again.
    """

    video: str
    mask: str | None = None
    freeze_video: str | None = None
    out: str | None = None
    preset: str | None = None
    weights: str = "mini-generalist"
    offline: bool = False
    model: str | None = None
    views: int | None = None
    frames: int | None = None
    size: int | None = None
    upsampler: str | None = None
    seed: int = 0
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    int8: bool = False
    attention: Literal["sdpa", "xformers", "reference"] = "sdpa"
    compile: bool = False
    show_plan: bool = False
    asset: bool = False
    save: Annotated[tuple[Literal["mp4", "gif", "png"], ...], tyro.conf.arg(metavar="{mp4,gif,png}...")] = ("mp4",)
    dnerf: bool = False
    stream: bool = False
    keep_windows: bool = False
    camera: CameraOptions = field(default_factory=CameraOptions)
    preprocess: PreprocessOptions = field(default_factory=PreprocessOptions)
    sampler: SamplerOptions = field(default_factory=SamplerOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    reference: ReferenceOptions = field(default_factory=ReferenceOptions)
    text: TextOptions = field(default_factory=TextOptions)
    upsample: UpsampleOptions = field(default_factory=UpsampleOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
