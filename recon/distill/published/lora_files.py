"""DreamBooth LoRA files of diffusers, added to a network's weights once, so that they cost nothing afterwards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from viewtime.errors import UserError
from viewtime.weight_header import check_keys

from .files import open_published

NAMES = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
PARTS = re.compile(
    r"(?:unet\.)?(?P<module>.+?)"
    r"(?:\.processor\.(?P<old>to_[qkv]|to_out)_lora\.|\.lora\.|\.lora_(?=[AB]\.)|\.lora_linear_layer\.)"
    r"(?P<half>down|up|A|B)\.weight"
)
"""attention processors (`….attn1.processor.to_q_lora.down.weight`) and peft (`….attn1.to_q.lora_A.weight`)."""


def add_lora_file(network: Any, path: str | Path, scale: float = 1.0) -> int:
    """W += scale · up · down for every pair in the file; returns how many matrices changed.

    Args:
        path: a folder of diffusers' `train_dreambooth_lora`, or its weight file. Text-encoder halves are left out.

    Raises:
        UserError: no such file, or it holds something that is no LoRA of this network.
    """
    path = Path(path)
    if path.is_dir():
        present = [path / name for name in NAMES if (path / name).is_file()]
        if not present:
            raise UserError(f"{path} has no {NAMES[0]}; give the folder that train_dreambooth_lora wrote")
        path = present[0]
    file = open_published(path)
    pairs: dict[str, dict[str, str]] = {}
    for name in file.shapes:
        if name.startswith("text_encoder."):
            continue
        found = PARTS.fullmatch(name)
        if not found:
            raise UserError(f"{path} holds {name}, which is no LoRA of attention; give a LoRA of diffusers")
        pairs.setdefault(_module_name(found), {})["down" if found["half"] in ("down", "A") else "up"] = name
    modules = dict(network.named_modules())
    wanted = {f"{module}.{half}": () for module in pairs if module in modules for half in ("down", "up")}
    given = {f"{module}.{half}": () for module, halves in pairs.items() for half in halves}
    check_keys(path, wanted, given)
    tensors = dict(file.read(name for halves in pairs.values() for name in halves.values()))
    with torch.no_grad():
        for module, halves in pairs.items():
            weight = modules[module].weight
            down, up = (tensors[halves[half]].to(weight.device, torch.float32) for half in ("down", "up"))
            if (up.shape[0], down.shape[-1]) != tuple(weight.shape):
                raise UserError(
                    f"{path}: the LoRA of {module} is {up.shape[0]} × {down.shape[-1]}, the network's weight is "
                    f"{weight.shape[0]} × {weight.shape[1]}; it belongs to another model"
                )
            weight += (scale * up @ down).to(weight.dtype)
    return len(pairs)


def _module_name(found: re.Match[str]) -> str:
    """diffusers' module that the LoRA belongs to."""
    old = found["old"]
    if old is None:
        return found["module"]
    return f"{found['module']}.{'to_out.0' if old == 'to_out' else old}"
