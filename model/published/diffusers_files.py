"""SVD's diffusers folder: reading it into our parts, and the config files beside its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.weight_header import WeightFile, check_keys, open_weights
from viewtime.weights import TargetDtype, read_tensors

from .diffusers_keys import Change, Piece, diffusers_pieces
from .video_config import Part, VideoModelConfig

WEIGHT_NAMES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model"}
NOT_IN_FOLDER = ("vision_model.embeddings.position_ids",)
THIRD_NUMBER: dict[Change, int] = {"first third": 0, "second third": 1, "last third": 2}


def open_diffusers(folder: Path, name: str) -> WeightFile:
    """Header of one part's weights; the full-precision file if both lie there.

    Raises:
        UserError: the part is missing or exists only as a pickle.
    """
    for variant in ("", ".fp16"):
        for ending in (f"{variant}.safetensors", f".safetensors.index{variant}.json"):
            path = folder / name / f"{WEIGHT_NAMES[name]}{ending}"
            if path.is_file():
                return open_weights(path)
    raise UserError(f"{folder / name} has no {WEIGHT_NAMES[name]}.safetensors; download the safetensors form")


def load_diffusers_parts(
    build: Callable[[], nn.Module],
    config: VideoModelConfig,
    folder: Path,
    parts: Sequence[Part],
    device: str | torch.device,
    dtype: TargetDtype,
) -> nn.Module:
    """Build a model on the meta device and fill the chosen parts, strictly; `dtype` as in `load_weights`.

    Raises:
        UserError: names missing, unexpected and mis-shaped tensors.
    """
    with torch.device("meta"):
        module = build()
    all_pieces = diffusers_pieces(config)
    pieces = [piece for piece in all_pieces if piece.ours.partition(".")[0] in parts]
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    collected: dict[str, dict[Change, Tensor]] = {}
    for name in sorted({piece.folder for piece in pieces}):
        opened = open_diffusers(folder, name)
        here = {piece.key: piece for piece in pieces if piece.folder == name}
        known = {piece.key for piece in all_pieces if piece.folder == name}
        found = {
            key: entry.shape
            for key, entry in opened.entries.items()
            if key in here or key not in known | set(NOT_IN_FOLDER)
        }
        wanted = {key: their_shape(piece, shapes[piece.ours], found.get(key)) for key, piece in here.items()}
        check_keys(folder / name, wanted, found)
        by_key = (lambda key, here=here: dtype(here[key].ours)) if callable(dtype) else dtype
        for key, tensor in read_tensors(opened, here, device, by_key):
            collected.setdefault(here[key].ours, {})[here[key].change] = tensor
    loaded = {ours: assemble(tensors).reshape(shapes[ours]) for ours, tensors in collected.items()}
    module.load_state_dict(loaded, strict=True, assign=True)
    return module


def their_shape(piece: Piece, ours: tuple[int, ...], found: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Shape of a diffusers tensor that holds this piece of ours; axes of size 1 are as `found` has them.

    The VAE's pointwise attention projections are convolutions in the published files and linear in diffusers.
    """
    if piece.change == "transpose":
        return ours[::-1]
    if piece.change in THIRD_NUMBER:
        return (ours[0] // 3, *ours[1:])
    if piece.folder == "vae" and ".attentions." in piece.key and len(ours) == 4:
        return ours if found == ours else ours[:2]
    return ours


def assemble(tensors: dict[Change, Tensor]) -> Tensor:
    """Our tensor of its pieces."""
    if "same" in tensors:
        return tensors["same"]
    if "transpose" in tensors:
        return tensors["transpose"].t().contiguous()
    return torch.cat([tensors[third] for third in THIRD_NUMBER])


def folder_configs(config: VideoModelConfig) -> dict[str, dict[str, Any]]:
    """File name -> content of the JSON files of a `StableVideoDiffusionPipeline` folder."""
    network, vae, clip = config.network, config.vae, config.image_encoder
    kinds = ["CrossAttn" if attention else "" for attention in network.attention_levels]
    blocks = [multiplier * network.channels for multiplier in network.multipliers]
    levels = len(vae.multipliers)
    return {
        "model_index.json": {
            "_class_name": "StableVideoDiffusionPipeline",
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
            "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
        },
        "unet/config.json": {
            "_class_name": "UNetSpatioTemporalConditionModel",
            "sample_size": 96,
            "in_channels": network.in_channels,
            "out_channels": network.out_channels,
            "down_block_types": [f"{kind}DownBlockSpatioTemporal" for kind in kinds],
            "up_block_types": [f"{kind}UpBlockSpatioTemporal" for kind in reversed(kinds)],
            "block_out_channels": blocks,
            "addition_time_embed_dim": config.vector[0].dim,
            "projection_class_embeddings_input_dim": network.vector_dim,
            "layers_per_block": network.residual_blocks,
            "cross_attention_dim": network.context_dim,
            "transformer_layers_per_block": 1,
            "num_attention_heads": [width // network.head_dim for width in blocks],
            "num_frames": config.frames,
        },
        "vae/config.json": {
            "_class_name": "AutoencoderKLTemporalDecoder",
            "in_channels": 3,
            "out_channels": 3,
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "block_out_channels": [multiplier * vae.channels for multiplier in vae.multipliers],
            "layers_per_block": vae.residual_blocks,
            "latent_channels": vae.latent_channels,
            "sample_size": 768,
            "scaling_factor": vae.scale,
            "force_upcast": True,
        },
        "image_encoder/config.json": {
            "architectures": ["CLIPVisionModelWithProjection"],
            "model_type": "clip_vision_model",
            "hidden_act": "gelu",
            "hidden_size": clip.width,
            "image_size": clip.image_size,
            "intermediate_size": 4 * clip.width,
            "num_attention_heads": clip.heads,
            "num_hidden_layers": clip.layers,
            "patch_size": clip.patch_size,
            "projection_dim": clip.out_dim,
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "EulerDiscreteScheduler",
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "num_train_timesteps": 1000,
            "prediction_type": "v_prediction",
            "sigma_max": 700.0,
            "sigma_min": 0.002,
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "timestep_type": "continuous",
            "use_karras_sigmas": True,
        },
        "feature_extractor/preprocessor_config.json": {
            "image_processor_type": "CLIPImageProcessor",
            "crop_size": {"height": clip.image_size, "width": clip.image_size},
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": {"shortest_edge": clip.image_size},
        },
    }
