"""Folders of MVDream and zero123 as people have put them on the hub; diffusers has no classes for either.

| folder | of | what is its own |
|---|---|---|
| ashawkey/mvdream-sd2.1-diffusers | MVDream | `unet` with LDM's names |
| lzq49/mvdream-sd21-diffusers | MVDream | the camera embedding in `camera_proj` |
| bennyguo/ and ashawkey/zero123…-diffusers, ashawkey/stable-zero123-diffusers | zero123 | `clip_camera_projection` |
| kxic/zero123-…, kxic/stable-zero123 | zero123 | `cc_projection` |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from viewtime.errors import UserError
from viewtime.model.conditioners.vision_transformer import VisionTransformer
from viewtime.model.published.diffusers_files import NOT_IN_FOLDER, assemble, their_shape
from viewtime.model.published.diffusers_keys import Change, clip_pieces
from viewtime.model.published.video_config import ImageEncoderConfig
from viewtime.weight_header import check_keys

from ..guidance.multi_view import add_camera_embedding, join_views
from ..guidance.zero123 import pose_projection
from .architectures import STABLE_DIFFUSION_2
from .files import PublishedFile, fill
from .folders import folder_part, read_json, weights_in
from .ldm_files import build_unet, ldm_unet
from .ldm_names import UNET_PREFIX

Device = torch.device | str
DIFFUSERS_UNET = ("UNet2DConditionModel",)
MVDREAM_UNET = "MultiViewUNetModel"
PROJECTIONS = {"clip_camera_projection": "proj.", "cc_projection": "projection."}
TOWER_SIZES = (
    "image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "projection_dim",
)  # fmt: skip
AVERAGED_FIRST = (".fp16_ema", "", ".fp16")
"""zero123's code uses the moving average; bennyguo's folders hold it beside the raw weights."""


def mvdream_unet(folder: Path, views: int, device: Device, dtype: torch.dtype | None) -> Any:
    """MVDream's network out of a folder, with its camera embedding and `views` that attend to each other.

    Raises:
        UserError: another network's folder, as ImageDream's, whose tensors do not fit.
    """
    part = folder / "unet"
    if read_json(part / "config.json").get("_class_name") == MVDREAM_UNET:
        return ldm_unet(_prefixed(weights_in(part)), build_unet(STABLE_DIFFUSION_2, views), device, dtype)
    network = folder_part(part, DIFFUSERS_UNET, device, dtype)
    if not (folder / "camera_proj").is_dir():
        raise UserError(
            f"{folder} has neither MVDream's own network nor a camera_proj: it is a Stable Diffusion without cameras; "
            "give ashawkey/mvdream-sd2.1-diffusers, lzq49/mvdream-sd21-diffusers or sd-v2.1-base-4view.pt"
        )
    file = weights_in(folder / "camera_proj")
    fill(add_camera_embedding(network).to("meta"), file, {name: name for name in file.shapes}, device, dtype)
    join_views(network, views)
    return network


def zero123_unet(folder: Path, device: Device, dtype: torch.dtype | None) -> Any:
    """zero123's network out of a folder.

    Raises:
        UserError: a network that does not look at a picture beside the noise.
    """
    network = folder_part(folder / "unet", DIFFUSERS_UNET, device, dtype, AVERAGED_FIRST)
    if network.config.in_channels != 2 * network.config.out_channels:
        raise UserError(
            f"{folder} is no zero123: its network has {network.config.in_channels} channels in and "
            f"{network.config.out_channels} out, and zero123 has twice as many in; name the model that it is of"
        )
    return network


def folder_image_tower(folder: Path, device: Device, dtype: torch.dtype | None) -> VisionTransformer:
    """CLIP's image tower of transformers (`CLIPVisionModelWithProjection`) as ours.

    Raises:
        UserError: there is none, or its tensors do not fit its config.
    """
    part = folder / "image_encoder"
    said = read_json(part / "config.json")
    if set(TOWER_SIZES) - set(said) or said.get("hidden_act") not in ("gelu", "quick_gelu"):
        raise UserError(f"{part} is no CLIP image tower: its config.json must have {', '.join(TOWER_SIZES)}")
    config = ImageEncoderConfig(*(said[name] for name in TOWER_SIZES), activation=said["hidden_act"])
    with torch.device("meta"):
        tower = VisionTransformer(config)
    shapes = {name: tuple(value.shape) for name, value in tower.state_dict().items()}
    pieces = {piece.key: (name, piece) for name in shapes for piece in clip_pieces(name)}
    file = weights_in(part, "model") if _has(part, "model") else weights_in(part, "pytorch_model")
    found = {key: shape for key, shape in file.shapes.items() if key not in NOT_IN_FOLDER}
    check_keys(file.path, {key: their_shape(piece, shapes[name]) for key, (name, piece) in pieces.items()}, found)
    gathered: dict[str, dict[Change, Tensor]] = {}
    for key, tensor in file.tensors(pieces, device):
        name, piece = pieces[key]
        gathered.setdefault(name, {})[piece.change] = tensor.to(device, dtype)
    loaded = {name: assemble(parts).reshape(shapes[name]) for name, parts in gathered.items()}
    tower.load_state_dict(loaded, strict=True, assign=True)
    return tower.eval().requires_grad_(False)


def folder_projection(folder: Path, device: Device, dtype: torch.dtype | None) -> nn.Module:
    """zero123's projection of embedding and pose.

    Raises:
        UserError: the folder has none under a known name.
    """
    place = next((name for name in PROJECTIONS if (folder / name).is_dir()), None)
    if place is None:
        raise UserError(
            f"{folder} has no {' or '.join(PROJECTIONS)}: it is no zero123 folder of bennyguo, ashawkey or kxic; give "
            "one of those, or the single file"
        )
    file, prefix = weights_in(folder / place), PROJECTIONS[place]
    weight = file.shapes.get(f"{prefix}weight", (1,))
    with torch.device("meta"):
        layer = pose_projection(weight[0])
    return fill(layer, file, {name: name.removeprefix(prefix) for name in file.shapes}, device, dtype)


def _prefixed(file: PublishedFile) -> PublishedFile:
    """A bare network's file as one that holds it beside other parts."""
    shapes = {UNET_PREFIX + name: shape for name, shape in file.shapes.items()}

    def read(names: Any) -> Any:
        bare = (name.removeprefix(UNET_PREFIX) for name in names)
        return ((UNET_PREFIX + name, tensor) for name, tensor in file.read(bare))

    return PublishedFile(file.path, shapes, read)


def _has(folder: Path, stem: str) -> bool:
    return any(folder.glob(f"{stem}.*safetensors*"))
