"""Options of `viewtime distill`: guidances, and the schedule as data. Imports no torch.

A number that changes over a stage is a list [start, first, last, end]: from `first` at step `start` linearly to `last`
at step `end`, constant before and after. Steps count from 0 in each stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Number = float | tuple[float, ...]


@dataclass(frozen=True)
class CameraOptions:
    """From where a step looks.

    Attributes:
        distance: least and greatest, world units (the scene's cube has an edge of 2).
        relative: distances are shares of the one at which the cube's height fills the picture.
        fov_y: least and greatest vertical field of view, degrees.
        elevation: least and greatest, degrees.
        azimuth: least and greatest, degrees; 0 is the front.
        spread: single cameras of a batch share the azimuths out between them.
        zoom: least and greatest factor on the field of view, drawn after the distance is set.
    """

    distance: tuple[float, float] = (2.5, 3.0)
    relative: bool = False
    fov_y: tuple[float, float] = (15.0, 60.0)
    elevation: tuple[float, float] = (0.0, 30.0)
    azimuth: tuple[float, float] = (-180.0, 180.0)
    spread: bool = True
    zoom: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class RangeOptions:
    """From which timesteps a guidance draws, as shares of the noise schedule.

    Attributes:
        low: the least.
        high: the greatest.
        switch: the step after which `high_after` holds instead of `high`; 0: never.
        high_after: see `switch`.
    """

    low: Number = 0.02
    high: Number = 0.98
    switch: int = 0
    high_after: float = 0.5


@dataclass(frozen=True)
class GuidanceOptions:
    """A frozen denoiser and what is done with its predictions.

    Attributes:
        model: which network; words, our small one of captions; or analytic, the exact denoiser of a small knight.
        weights: file or folder of the network; analytic needs none.
        carrier: file or folder of the network that carries VSD's LoRA; none: the network itself carries it.
        vae: file or folder of another autoencoder.
        text_encoder: file or folder that holds the text encoder; none: the network's own.
        lora: folder of a DreamBooth LoRA that diffusers wrote, for model sd-2.1-base.
        clip: for grid: a grid folder whose first view the scene should agree with.
        resize: height and width that the network sees, for those that take several; none: its own.
        chunk: pictures that the autoencoder takes at a time.
        recompute: keep nothing of the encoder for the backward pass.
        frames_with_gradient: pictures of a step, drawn at random, that carry gradients through the autoencoder; 0: all.
        split: conditional and unconditional prediction one after the other.
        dtype: of the network.
        negative: the negative prompt; quality: the long list of words that MVDream uses.
        view_words: thresholds in degrees of the front, the back and overhead, for ", front view" and the like behind
            the prompt; none: the prompt alone.
        drop_words: words that this guidance does not see, as DreamBooth's token.
        loss: sds; reconstruction (MVDream's); vsd (ProlificDreamer's); one_step (Dream-in-4D's).
        scale: of classifier-free guidance, in the form that the loss's published code has.
        form: a: conditional + scale · difference; b: unconditional + scale · difference.
        weighting: of sds.
        motion: factor on what differs from the mean frame, of sds.
        rescale: of reconstruction.
        steps: denoising steps of one_step.
        range: of timesteps.
        weight: of each loss by its name: sds; vsd and lora; latent and color.
        front_only: images further from the front than this many degrees are not shown to it; 180: all are.
        camera: analytic: own, any or front, see recon/distill/guidance/analytic.py.
        time: analytic: own or any.
        blur: analytic: the scene is known at a size so many times smaller.
        size: analytic: pixels, height and width.
        views: analytic, words: how many it looks at together.
        kind: analytic, words: what it looks at together.
    """

    model: Literal[
        "analytic", "grid", "words", "sd-2.1-base", "sd-2.1", "deepfloyd-if", "mvdream", "zeroscope", "modelscope",
        "zero123", "zero123-xl", "stable-zero123",
    ] = "analytic"  # fmt: skip
    weights: Path | None = None
    carrier: Path | None = None
    vae: Path | None = None
    text_encoder: Path | None = None
    lora: Path | None = None
    clip: Path | None = None
    resize: tuple[int, int] | None = None
    chunk: int = 1
    recompute: bool = True
    frames_with_gradient: int = 0
    split: bool = False
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    negative: str = ""
    view_words: tuple[float, float, float] | None = None
    drop_words: tuple[str, ...] = ()
    loss: Literal["sds", "reconstruction", "vsd", "one_step"] = "sds"
    scale: float = 100.0
    form: Literal["a", "b"] = "a"
    weighting: Literal["sds", "uniform", "fantasia3d"] = "sds"
    motion: float = 1.0
    rescale: float = 0.5
    steps: int = 1
    range: RangeOptions = field(default_factory=RangeOptions)
    weight: dict[str, Number] = field(default_factory=lambda: {"sds": 1.0})
    front_only: float = 180.0
    camera: Literal["own", "any", "front"] = "own"
    time: Literal["own", "any"] = "own"
    blur: int = 1
    size: tuple[int, int] = (32, 32)
    views: int = 1
    kind: Literal["image", "multi-view", "video"] = "image"


@dataclass(frozen=True)
class ShotOptions:
    """Pictures that a step makes, and who judges them.

    Attributes:
        probability: that a step is this one, among those that have one; none: this one is in every step.
        cameras: a section of `cameras` of the config, by its name.
        guidances: sections of `guidances` of the config, by their names; reference: the user's picture.
        views: cameras on one ring, or 1.
        frames: of a video; 1: one instant.
        times: of a video: offset (4D-fy's) or interval (Dream-in-4D's).
        sizes: height and width in pixels, and scenes (videos, rings or pictures) at a time; the next entry holds from
            the next of `at_steps` on.
        at_steps: steps at which the sizes change.
        frozen: groups of parameters that do not learn from this shot.
    """

    probability: float | None = None
    cameras: str = "all"
    guidances: tuple[str, ...] = ()
    views: int = 1
    frames: int = 1
    times: Literal["offset", "interval"] = "offset"
    sizes: tuple[tuple[int, int, int], ...] = ((256, 256, 1),)
    at_steps: tuple[int, ...] = ()
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageOptions:
    """One stage of a run.

    Attributes:
        steps: its length.
        moving: whether instants differ; else the scene at t = 0 is shown.
        new_background: start the background anew.
        rates: learning rate of each group of parameters (static, networks, dynamic, motion_network, background; copy,
            VSD's, where a shot has one); a group that is not named is frozen.
        halve_at: steps at which all learning rates are halved.
        optimizer: adam or adamw (with torch's weight decay of 0.01).
        betas: of the optimiser.
        epsilon: of the optimiser.
        spread: radius at which the density's starting blob is 0, world units.
        sparsity: weight of the mean of √(opacity² + 0.01).
        opaque: weight of the opacity's entropy.
        variation: weight of the displacement's total variation, for videos.
        ranges: of timesteps in this stage, by guidance, instead of the guidance's own.
        shots: what its steps show.
    """

    steps: int
    moving: bool = False
    new_background: bool = False
    rates: dict[str, float] = field(default_factory=dict)
    halve_at: tuple[int, ...] = ()
    optimizer: Literal["adam", "adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.99)
    epsilon: float = 1e-15
    spread: Number = 0.5
    sparsity: Number = 0.0
    opaque: Number = 0.0
    variation: Number = 0.0
    ranges: dict[str, RangeOptions] = field(default_factory=dict)
    shots: dict[str, ShotOptions] = field(default_factory=dict)
