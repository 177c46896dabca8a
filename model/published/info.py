"""What a weight file is, in words, from its header alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from viewtime.errors import UserError
from viewtime.model.published.identify import Identified, identify
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.weight_header import Entry, WeightFile, open_weights

WHAT = {
    "svd": "Stable Video Diffusion: frames from one image",
    "sv3d": "SV3D: an orbit of views from one image",
    "sv4d": "SV4D: views × frames from one video",
}
PUBLISHED_PARTS = (
    ("network", "model.diffusion_model."),
    ("image encoder (OpenCLIP)", "conditioner.embedders.0.open_clip.model.visual."),
    ("decoder", "first_stage_model.decoder."),
)
DIFFUSERS_FOLDERS = ("unet", "vae", "image_encoder")


def describe_file(path: str | Path) -> str:
    """A table: model, format, and per part the number of tensors, parameters and dtypes.

    Raises:
        UserError: no such file, or not a whole weight file.
    """
    path = Path(path)
    try:
        found = identify(path)
    except UserError:
        if path.is_dir() and (path / "model_index.json").is_file():
            raise
        return _describe_other(path, open_weights(path))
    lines = [f"{path}: {found.config.name}, {WHAT[found.config.family]}", f"format      {found.format}"]
    grid = f"{found.config.views} views × {found.config.frames} frames"
    lines.append(f"one pass    {grid}, {found.config.image_size} pixels high")
    if found.format == "stability" and found.config.name.startswith("sv4d2"):
        lines.append("note        the 4-view and 8-view files of SV4D 2.0 differ in name only; 8views in it decides")
    return "\n".join(lines + _table(_parts(path, found)))


def _describe_other(path: Path, opened: WeightFile) -> str:
    model = opened.config.get("model") or opened.config.get("name")
    name = model if isinstance(model, str) else "none of SVD, SV3D, SV4D"
    parts: dict[str, list[Entry]] = defaultdict(list)
    for key, entry in opened.entries.items():
        parts[key.partition(".")[0]].append(entry)
    written = "written by viewtime" if opened.config else "no viewtime config in it"
    return "\n".join([f"{path}: {name}, {written}", *_table(parts)])


def _parts(path: Path, found: Identified) -> dict[str, list[Entry]]:
    parts: dict[str, list[Entry]] = defaultdict(list)
    if found.format == "diffusers":
        from viewtime.model.published.diffusers_files import open_diffusers

        for folder in DIFFUSERS_FOLDERS:
            parts[folder].extend(open_diffusers(path, folder).entries.values())
        return parts
    assert found.file is not None
    for key, entry in found.file.entries.items():
        label = _published_part(key, found.config) if found.format == "stability" else key.partition(".")[0]
        parts[label].append(entry)
    return parts


def _published_part(key: str, config: VideoModelConfig) -> str:
    encoders = [("frame encoder", config.frame_encoder_place)]
    if config.family == "sv4d":
        encoders.append(("view encoder", 4))
    for label, prefix in PUBLISHED_PARTS:
        if key.startswith(prefix):
            return label
    for label, place in encoders:
        for half in ("encoder", "quant_conv"):
            if key.startswith(f"conditioner.embedders.{place}.encoder.{half}."):
                return label
    return "unused"


def _table(parts: dict[str, list[Entry]]) -> list[str]:
    rows = [("part", "tensors", "parameters", "GiB", "dtypes")]
    everything = [entry for entries in parts.values() for entry in entries]
    for label, entries in [*parts.items(), ("total", everything)]:
        parameters = sum(entry.numel for entry in entries)
        size = sum(entry.size for entry in entries) / 2**30
        dtypes = ", ".join(sorted({entry.dtype for entry in entries}))
        rows.append((label, str(len(entries)), f"{parameters:,}", f"{size:.2f}", dtypes))
    return [f"{a:26s} {b:>8s} {c:>16s} {d:>8s}  {e}" for a, b, c, d, e in rows]
