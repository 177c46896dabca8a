"""Opens the guidances that a run's options name, each with its prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange

from viewtime.configs.schema.distill import DistillConfig
from viewtime.configs.schema.distill_stages import GuidanceOptions
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.model.weight_names import find_weights
from viewtime.sample.models.loading import load_model

from ..guidance.analytic import AnalyticGuidance, Knowledge, KnownPrompt
from ..guidance.base import CameraCopy, Guidance, Kind
from ..guidance.grid import ClipPrompt, GridGuidance
from ..guidance.prompts import QUALITY_WORDS, TextPrompt, ViewWords, encode_prompt
from ..guidance.words import open_words, read_config, words_prompt
from ..guidance.zero123 import Zero123Guidance
from ..known_scene import KnownGaussians
from ..noise import scaled_linear_schedule
from ..published.catalogue import CATALOGUE
from ..published.open import GuidanceOptions as LoadOptions
from ..published.open import open_copy, open_guidance, share_copy
from ..published.text_encoders import check_text_encoder, open_text_encoder
from ..teacher import Teacher
from .reference import Reference
from .schedule import Judge, make_objective, scalar, used_guidances

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def weights_of(name: str, config: DistillConfig) -> Path | None:
    """Where a guidance's network lies: `--weights.NAME`, else what its section says."""
    return config.weights.get(name, config.guidances[name].weights)


def check_weights(config: DistillConfig) -> None:
    """Raise UserError at the start for what a later stage would miss or refuse; no weights are read."""
    unknown = set(config.weights) - set(config.guidances)
    if unknown:
        raise UserError(
            f"--weights.{min(unknown)}: no guidance has that name; there are {', '.join(sorted(config.guidances))}"
        )
    for name in used_guidances(config.stages.values()):
        options, known = config.guidances[name], None
        try:
            if options.model in CATALOGUE:
                load = load_options(options, _lora(options, config))
                opened = open_guidance(options.model, weights_of(name, config), "meta", options=load)
                if opened.traits.wants_text:
                    _check_text(name, options, weights_of(name, config))
            elif options.model == "grid":
                find_weights(str(weights_of(name, config)))
            elif options.model == "words":
                known = read_config(find_weights(str(weights_of(name, config))))
            if options.loss == "vsd" and options.carrier is not None:
                open_copy(options.carrier, "meta")
        except UserError as error:
            where = "" if "(--" in str(error) else f" (--weights.{name} PATH)"
            raise UserError(f"guidance {name}: {error}{where}") from error
        if known is not None:
            words_prompt(config.prompt, known)
        if options.model == "grid" and options.clip is None:
            raise UserError(f"guidance {name}: a grid model follows a clip: give --guidances.{name}.clip GRID_FOLDER")
    if config.lora is not None and not any(o.model.startswith("sd-") for o in config.guidances.values()):
        raise UserError(f"--lora {config.lora}: this schedule has no guidance by Stable Diffusion")


def open_judge(name: str, config: DistillConfig, device: torch.device, reference: Reference | None = None) -> Judge:
    """The judge of a section of `guidances`.

    Raises:
        UserError: no weights are named, there are none, or they are another network's.
    """
    options = config.guidances[name]
    weight = {loss: scalar(value, f"guidances.{name}.weight.{loss}") for loss, value in options.weight.items()}
    guidance, prompt = open_guided(name, config, device, reference)
    copy, copy_prompt = None, None
    if options.loss == "vsd":
        copy = _copy(name, options, guidance, device)
        copy_prompt = replace(prompt, words=None)
    return Judge(Teacher(guidance, prompt, make_objective(options), copy, copy_prompt), weight, options.front_only)


def open_guided(
    name: str, config: DistillConfig, device: torch.device, reference: Reference | None = None
) -> tuple[Guidance, Any]:
    """A guidance and the prompt of the class that it asks for; raises like `open_judge`."""
    options, path = config.guidances[name], weights_of(name, config)
    if options.model == "analytic":
        return analytic_guidance(name, options), KnownPrompt(config.prompt)
    if options.model == "grid":
        return _grid(name, options, path, config, device)
    if options.model == "words":
        words = open_words(name, find_weights(str(path)), Kind(options.kind), device, options.views)
        return words, words_prompt(config.prompt, words.config)
    dtype = DTYPES[options.dtype] if device.type == "cuda" else torch.float32
    guidance = open_guidance(options.model, path, device, dtype, load_options(options, _lora(options, config)))
    if isinstance(guidance, Zero123Guidance):
        if reference is None:
            raise UserError(f"guidance {name}: {options.model} looks at a picture: give --image FILE.png (RGBA)")
        o = reference.options
        picture = reference.picture.to(device)
        return guidance, guidance.reference(picture, o.elevation, o.azimuth, o.distance, config.prompt)
    return guidance, _text(name, options, path, config.prompt).to(device)


def load_options(options: GuidanceOptions, lora: Path | None = None) -> LoadOptions:
    """How a published network is to be loaded."""
    o = options
    return LoadOptions(
        size=o.resize, chunk=o.chunk, recompute=o.recompute, split=o.split,
        frames_with_gradient=o.frames_with_gradient or None,
        vae=None if o.vae is None else str(o.vae), lora=None if lora is None else str(lora),
    )  # fmt: skip


def _lora(options: GuidanceOptions, config: DistillConfig) -> Path | None:
    return options.lora or (config.lora if options.model.startswith("sd-") else None)


def analytic_guidance(name: str, options: GuidanceOptions) -> AnalyticGuidance:
    """The exact denoiser of the scene that ships."""
    o = options
    knowledge = Knowledge(o.camera, o.time, blur=o.blur)
    return AnalyticGuidance(name, KnownGaussians.of(), Kind(o.kind), o.size, views=o.views, knowledge=knowledge)


def _text(name: str, options: GuidanceOptions, path: Path | None, prompt: str) -> TextPrompt:
    """Embeddings, made on the CPU; the encoder is let go afterwards."""
    for word in options.drop_words:
        prompt = prompt.replace(f"{word} ", "")
    place = options.text_encoder or path
    assert place is not None, "open_guidance refuses a missing path"
    try:
        encoder = open_text_encoder(place, "cpu", torch.float32)
    except UserError as error:
        raise UserError(f"guidance {name}: {error} (--guidances.{name}.text_encoder PATH)") from error
    words = None if options.view_words is None else ViewWords(*options.view_words)
    negative = QUALITY_WORDS if options.negative == "quality" else options.negative
    return encode_prompt(encoder, prompt, negative, words)


def _check_text(name: str, options: GuidanceOptions, path: Path | None) -> None:
    place = options.text_encoder or path
    assert place is not None, "open_guidance refuses a missing path"
    try:
        check_text_encoder(place)
    except UserError as error:
        raise UserError(f"{error} (--guidances.{name}.text_encoder PATH)") from error


def _copy(name: str, options: GuidanceOptions, guidance: Guidance, device: torch.device) -> CameraCopy:
    if not options.model.startswith("sd-"):
        raise UserError(f"guidance {name}: VSD needs a Stable Diffusion, not {options.model}")
    if options.carrier is None:
        return share_copy(guidance)  # type: ignore[arg-type]
    dtype = DTYPES[options.dtype] if device.type == "cuda" else torch.float32
    return open_copy(options.carrier, device, dtype)


def _grid(
    name: str, options: GuidanceOptions, path: Path | None, config: DistillConfig, device: torch.device
) -> tuple[GridGuidance, ClipPrompt]:
    """One of our own grid models, and the first view of the clip's grid as its prompt."""
    assert options.clip is not None, "check_weights refuses that"
    dtype = DTYPES[options.dtype] if device.type == "cuda" else torch.float32
    model = load_model(str(path), device, dtype)
    frames = max(
        shot.frames for stage in config.stages.values() for shot in stage.shots.values() if name in shot.guidances
    )
    guidance = GridGuidance(model, scaled_linear_schedule(), views=options.views, frames=frames, chunk=options.chunk)
    clip = FrameGrid.load(options.clip)
    if clip.shape[1] < frames:
        raise UserError(f"guidance {name}: {options.clip} has {clip.shape[1]} frames; its videos have {frames}")
    kept = clip[[0], slice(0, frames)]
    pictures = kept.frames if model.traits.channels == 4 else kept.rgb()
    size = guidance.traits.size
    small = torch.nn.functional.interpolate(rearrange(pictures, "1 f c h w -> f c h w"), size, mode="area")
    return guidance, ClipPrompt(config.prompt, small.to(device), kept.orbit)
