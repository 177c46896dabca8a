"""From a weight file to a model that the runner can sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

import viewtime
from viewtime.errors import UserError
from viewtime.model.attention import Backend, use_backend
from viewtime.model.precision import Dtypes, part_dtypes
from viewtime.weights import read_header

from .grid_model import GridModel

ASSETS = Path(viewtime.__file__).resolve().parent / "assets"
SHIPPED = {"mini": ASSETS / "mini.safetensors", "mini-generalist": ASSETS / "mini_generalist.safetensors"}
KNOWS = {
    "mini": "knows two small humanoids, a knight and a barbarian, and makes one of those of any other object",
    "mini-generalist": "knows the rough shape of any object",
    "sv4d": "knows any object: 8 views × 5 frames a window (SV4D)",
    "sv4d2": "knows any object: 4 views × 12 frames a window (SV4D 2.0)",
    "sv4d2-8views": "knows any object: 8 views × 5 frames a window (SV4D 2.0)",
    "sv3d-u": "knows any object at one instant (SV3D)",
    "sv3d-p": "knows any object at one instant (SV3D)",
    "svd-xt": "knows films of any kind, and no other views (SVD)",
    "4real": "knows what it was trained on (4Real-Video)",
}
PUBLISHED = {
    "sv4d": "stabilityai/sv4d",
    "sv4d2": "stabilityai/sv4d2.0",
    "sv4d2-8views": "stabilityai/sv4d2.0",
    "sv3d-u": "stabilityai/sv3d",
    "sv3d-p": "stabilityai/sv3d",
    "svd-xt": "stabilityai/stable-video-diffusion-img2vid-xt",
}
LICENCE = "Stability AI Community License: accept it on the model's page; commercial use is limited"


def find_weights(name_or_path: str) -> Path:
    """The weight file behind a name or a path.

    Raises:
        UserError: not there; says where published weights come from and under which licence.
    """
    if name_or_path in SHIPPED:
        path = SHIPPED[name_or_path]
        if not path.is_file():
            raise UserError(f"the weights of {name_or_path} are missing from this installation: {path}; reinstall it")
        return path
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    known = name_or_path.lower().removesuffix(".safetensors").rpartition("/")[2].replace("_", "-").replace("2.0", "2")
    if known in PUBLISHED:
        raise UserError(
            f"no such weights: {name_or_path}; download {known.replace('-', '_')}.safetensors from "
            f"https://huggingface.co/{PUBLISHED[known]} ({LICENCE}) and give its path as --weights"
        )
    raise UserError(
        f"no such weights: {name_or_path}; give a .safetensors file, or one of the names "
        f"{', '.join([*SHIPPED, *PUBLISHED])} to be told where they come from"
    )


def what_it_knows(weights: str, name: str) -> str:
    """One line on a model: its name and what it can show.

    Args:
        weights: as the user named them.
        name: of the model in them.
    """
    shipped = next((known for known, file in SHIPPED.items() if weights in (known, str(file))), None)
    if shipped is not None:
        return f"viewtime-{shipped} {KNOWS[shipped]}"
    if name == "mini":
        return f"{weights} (mini) knows what it was trained on"
    return f"{weights} ({name}) {KNOWS.get(name, 'knows what it was trained on')}"


def _mini(path: Path, device: torch.device, dtypes: Dtypes, **options: object) -> GridModel:
    from .mini_model import load_mini

    del options
    return load_mini(path, device, dtypes["network"])


def _four_real(path: Path, device: torch.device, dtypes: Dtypes, **options: object) -> GridModel:
    from .four_real_model import load_four_real

    del options
    return load_four_real(path, device, dtypes["network"])


BUILDERS: dict[str, Callable[..., GridModel]] = {"mini": _mini, "4real": _four_real}


def load_model(
    name_or_path: str,
    device: torch.device,
    dtype: torch.dtype | None = None,
    expected: str | None = None,
    chunk: int = 8,
    offload: bool = False,
    attention: Backend = "sdpa",
    compile: bool = False,
) -> GridModel:
    """Load the weights and build the model that their metadata, or their tensors, name.

    Args:
        dtype: of all parts; None: what each loses least by (`viewtime.model.precision`).
        expected: what the file must hold; None takes what it holds.
        chunk: frames encoded and decoded at a time.
        offload: keep parts on the CPU until they are used.
        attention: backend of every attention layer.
        compile: compile the network, which pays over many windows of one shape.

    Raises:
        UserError: no such file, not a weight file, or the weights of another model.
    """
    path = find_weights(name_or_path)
    name = _name_in_metadata(path)
    dtypes = part_dtypes(device, dtype)
    if name in BUILDERS:
        if expected is not None and expected != name:
            raise UserError(f"{path} holds {name}, not {expected}; give --model {name} or another file")
        model = BUILDERS[name](path, device, dtypes)
        network = model.denoiser.network  # type: ignore[attr-defined]
    else:
        from .video_grid_model import load_video_grid_model

        model = load_video_grid_model(path, expected, device, dtypes, chunk=chunk, offload=offload)
        network = model.model
    use_backend(network, attention)
    if compile:
        getattr(network, "network", network).compile(dynamic=False)
    return model


def _name_in_metadata(path: Path) -> str | None:
    """The model that a file written by viewtime names; None for published files and diffusers folders."""
    if path.is_dir() and (path / "model_index.json").is_file():
        return None
    config, _ = read_header(path)
    section = config.get("model")
    return section.get("name") if isinstance(section, dict) else None
