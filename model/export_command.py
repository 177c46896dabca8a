"""`viewtime export FILE --format stability|diffusers|viewtime`: the same tensors, byte for byte, under other names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from viewtime.errors import UserError
from viewtime.files import atomic_folder
from viewtime.log import log
from viewtime.model.published.diffusers_files import THIRD_NUMBER, WEIGHT_NAMES, folder_configs, their_shape
from viewtime.model.published.diffusers_keys import Piece, diffusers_pieces
from viewtime.model.published.identify import file_config, identify
from viewtime.model.published.published_keys import used_names
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.model.published.weight_sources import UNUSED_PREFIX, Source, sources, transposed
from viewtime.model.video_model import as_published
from viewtime.weights import TensorInfo, write_stream

WeightFormat = Literal["stability", "diffusers", "viewtime"]


def export_weights(path: Path, format: WeightFormat, out: Path, preset: str | None = None) -> Path:
    """Write a weight file of SVD, SV3D or SV4D in another format.

    Tensors keep their bytes; in a diffusers folder, OpenCLIP's stacked attention projections are cut in three and its
    output projection is transposed, as diffusers wants them. What no computation reads travels between `stability`
    and `viewtime` files, and is left out of a diffusers folder.

    Args:
        path: a .safetensors file, an index of shards or a diffusers folder.
        out: a .safetensors file; for `diffusers` a folder.
        preset: which model it is, where the header fits two; see `identify`.

    Raises:
        UserError: unknown format, a file that does not fit, or a model that diffusers has no class for.
    """
    found = identify(path, preset)
    if format == "diffusers" and found.config.family != "svd":
        raise UserError(f"diffusers has no pipeline for {found.config.name}; use stability or viewtime")
    if format not in ("stability", "diffusers", "viewtime"):
        raise UserError(f"unknown weight format {format!r}; one of: stability, diffusers, viewtime")
    if format != "diffusers" and out.suffix != ".safetensors":
        raise UserError(f"{out}: the {format} format is one file; give a name that ends in .safetensors")
    tensors = sources(path, found)
    if format == "diffusers":
        return _write_folder(tensors, found.config, out)
    if format == "viewtime":
        config = as_published(found.config) if found.format == "stability" else found.config
        return _write_file(tensors, out, file_config(config))
    published = {ours: name for ours, (name, _) in used_names(found.config).items()}
    renamed = {
        ours.removeprefix(UNUSED_PREFIX) if ours.startswith(UNUSED_PREFIX) else published[ours]: source
        for ours, source in tensors.items()
    }
    return _write_file(renamed, out, {})


def _write_file(tensors: dict[str, Source], out: Path, config: dict[str, Any]) -> Path:
    described = {name: source.info for name, source in tensors.items()}
    return write_stream(out, described, (source.read() for source in tensors.values()), config)


def _write_folder(tensors: dict[str, Source], config: VideoModelConfig, out: Path) -> Path:
    left_out = [name for name in tensors if name.startswith(UNUSED_PREFIX)]
    if left_out:
        log.info("%d tensors that no computation reads are left out of the diffusers folder", len(left_out))
    pieces = diffusers_pieces(config)
    with atomic_folder(out, "model_index.json", (r"[^/]+/[^/]+\.(json|safetensors)",)) as folder:
        for name, content in folder_configs(config).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(content, indent=2) + "\n")
        for part, weights in WEIGHT_NAMES.items():
            chosen = {piece.key: _cut(piece, tensors[piece.ours]) for piece in pieces if piece.folder == part}
            _write_file(chosen, folder / part / f"{weights}.safetensors", {})
    return out


def _cut(piece: Piece, source: Source) -> Source:
    """The part of our tensor that a diffusers tensor holds."""
    info = TensorInfo(source.info.dtype, their_shape(piece, source.info.shape))
    if piece.change == "transpose":
        return Source(info, lambda: transposed(source.read(), source.info))
    if piece.change in THIRD_NUMBER:
        return Source(info, lambda: _third(source.read(), THIRD_NUMBER[piece.change]))
    return Source(info, source.read)


def _third(data: bytes, number: int) -> bytes:
    size = len(data) // 3
    return data[number * size : (number + 1) * size]
