"""`viewtime info`: what this installation can do."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

from viewtime import __version__
from viewtime.configs.load import preset_command, presets
from viewtime.configs.schema.info import InfoConfig
from viewtime.run_folder import package_version

OPTIONAL_PARTS = {
    "render": ("bpy", "objaverse", "ray"),
    "train": ("accelerate", "decord", "deepspeed", "diffusers", "open_clip", "peft", "wandb", "webdataset"),
    "metrics": ("lpips", "matplotlib", "open_clip", "torchvision"),
    "app": ("gradio",),
    "cuda": ("gsplat", "xformers"),
}
DISTRIBUTIONS = {"open_clip": "open-clip-torch"}


def run(config: InfoConfig) -> list[Path]:
    """Print the report; with a file or a preset, describe that instead."""
    if config.file is not None and str(config.file) in presets():
        from viewtime.model.parameter_table import describe_preset

        print(describe_preset(str(config.file)))
        return []
    if config.file is not None:
        from viewtime.model.published.info import describe_file

        print(describe_file(config.file))
        return []
    import torch

    print(f"viewtime {__version__}, Python {sys.version.split()[0]}, {platform.platform()}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} processors")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        print(f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        print("no CUDA device: everything runs on the CPU")
    for extra, modules in OPTIONAL_PARTS.items():
        found = [f"{name} {version}" for name in modules if (version := _installed(name))]
        absent = [name for name in modules if not _installed(name)]
        hint = f"; missing {', '.join(absent)}: pip install 'viewtime[{extra}]'" if absent else ""
        print(f"{extra:8s} {', '.join(found) or 'nothing'}{hint}")
    print("presets, by the command that takes them (model: networks, by name):")
    for command in sorted({preset_command(name) for name in presets()}):
        print(f"  {command:11s} {', '.join(presets(command))}")
    return []


def _installed(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    return package_version(DISTRIBUTIONS.get(module, module)) or "(version unknown)"
