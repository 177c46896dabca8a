"""From a weight file to a model that the runner can sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from viewtime.errors import UserError
from viewtime.model.attention import Backend, use_backend
from viewtime.model.eight_bits import hold_in_eight_bits
from viewtime.model.precision import Dtypes, part_dtypes
from viewtime.model.weight_names import find_weights
from viewtime.weights import read_header

from .grid_model import GridModel


def _mini(path: Path, device: torch.device, dtypes: Dtypes, **options: object) -> GridModel:
    from .mini_model import load_mini

    del options
    return load_mini(path, device, dtypes["network"])


def _four_real(path: Path, device: torch.device, dtypes: Dtypes, **options: object) -> GridModel:
    from .four_real_model import load_four_real

    del options
    return load_four_real(path, device, dtypes["network"])


def _words(path: Path, device: torch.device, dtypes: Dtypes, **options: object) -> GridModel:
    del device, dtypes, options
    raise UserError(f"{path} holds mini-words, which takes no video: it guides viewtime distill (--config 4d-fy-words)")


BUILDERS: dict[str, Callable[..., GridModel]] = {"mini": _mini, "4real": _four_real, "mini-words": _words}


def load_model(
    name_or_path: str,
    device: torch.device,
    dtype: torch.dtype | None = None,
    expected: str | None = None,
    chunk: int = 8,
    offload: bool = False,
    attention: Backend = "sdpa",
    compile: bool = False,
    offline: bool = False,
    int8: bool = False,
) -> GridModel:
    """Load the weights and build the model that their metadata, or their tensors, name.

    Args:
        dtype: of all parts; None: what each loses least by (`viewtime.model.precision`).
        expected: what the file must hold; None takes what it holds.
        chunk: frames encoded and decoded at a time.
        offload: keep parts on the CPU until they are used.
        attention: backend of every attention layer.
        compile: compile the network, which pays over many windows of one shape.
        offline: download nothing.
        int8: hold the large layers of network and image encoder in 8 bits; see `viewtime.model.eight_bits`.

    Raises:
        UserError: no such file, not a weight file, the weights of another model, or a mini model in 8 bits.
    """
    path = find_weights(name_or_path, offline)
    name = _name_in_metadata(path)
    dtypes = part_dtypes(device, dtype)
    if int8 and name == "mini":
        raise UserError(f"--int8 is for models of gigabytes, not for {path.name}, a mini; leave it out")
    place = torch.device("cpu") if int8 else device
    if name in BUILDERS:
        if expected is not None and expected != name:
            raise UserError(f"{path} holds {name}, not {expected}; give --model {name} or another file")
        model = BUILDERS[name](path, place, dtypes)
        network = model.denoiser.network  # type: ignore[attr-defined]
    else:
        from .video_grid_model import load_video_grid_model

        model = load_video_grid_model(path, expected, place, dtypes, chunk=chunk, offload=offload)
        network = model.model
    if int8:
        for part in (getattr(network, "network", network), getattr(network, "image_encoder", None)):
            if part is not None:
                hold_in_eight_bits(part)
        model.to(device)
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
