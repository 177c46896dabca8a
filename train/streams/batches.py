"""Batches from a stream, whatever its form, checked and on the device; and the project's own loaders as streams."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from viewtime.configs.load import build
from viewtime.configs.schema.data import DataConfig
from viewtime.errors import UserError
from viewtime.train.transfer import to_device


class Batch(NamedTuple):
    """x0 [B, V, F, C, H, W] in [−1, 1], the conditions, and the samples' names where the stream gives them."""

    x0: Tensor
    cond: dict[str, Tensor]
    ids: list[str]


def read_batch(raw: Any, device: torch.device, masked: bool = False) -> Batch:
    """Check a batch and move it to the device.

    Args:
        masked: its cells marked `known` carry no loss.

    Raises:
        UserError: wrong number of axes, a condition of another batch size, a value that is not finite, or a sample
            whose cells are all known, so that nothing is left to learn; names the sample and the key.
    """
    fields = raw if isinstance(raw, dict) else vars(raw)
    x0, cond = fields["x0"], fields["cond"]
    ids = [str(name) for name in fields.get("ids") or []]
    if x0.dim() != 6:
        raise UserError(f"x0 has shape {list(x0.shape)}; it must be [B, V, F, C, H, W]{_names(ids)}")
    for key, value in {"x0": x0, **cond}.items():
        if value.shape[0] != x0.shape[0]:
            raise UserError(f"{key} has {value.shape[0]} samples, x0 has {x0.shape[0]}{_names(ids)}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = [i for i in range(len(value)) if not bool(torch.isfinite(value[i]).all())]
            raise UserError(f"{key} has values that are not finite{_names([ids[i] for i in bad] if ids else [])}")
    if masked and "known" in cond and bool((full := cond["known"].flatten(1).all(1)).any()):
        names = [name for name, is_full in zip(ids, full.tolist()) if is_full]
        raise UserError(f"a sample's cells are all known; mask fewer cells or give larger grids{_names(names)}")
    moved = {key: to_device(value, device) for key, value in cond.items()}
    return Batch(to_device(x0, device, torch.float32), moved, ids)


def _names(ids: list[str]) -> str:
    return f" (samples {', '.join(ids[:4])}{', …' if len(ids) > 4 else ''})" if ids else ""


def grid_loader(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> Any:
    """Stream "grids": shards, assets rendered on the fly and videos, see `viewtime.configs.schema.data.DataConfig`."""
    from viewtime.data.build import build_loader

    config = build(DataConfig, {**options, "batch_size": batch_size, "seed": seed}, "data.options")
    return build_loader(config, rank, world)


def family_loader(options: dict[str, Any], *, batch_size: int, seed: int, rank: int, world: int) -> Any:
    """Stream "family": a character family rendered once, see `viewtime.data.live.family`.

    Options: `family` (preset under configs/families), `folder` (of the rendered grids), `held_out`, and the keys of
    `viewtime.configs.schema.data.DataConfig`.
    """
    from viewtime.data.live.family_source import family_loader as open_family

    keys = {"family", "folder", "held_out"}
    config = build(
        DataConfig,
        {**{key: value for key, value in options.items() if key not in keys}, "batch_size": batch_size, "seed": seed},
        "data.options",
    )
    if config.buckets:
        raise UserError('data.options.buckets are for shards, of the stream "grids"; a family has one size')
    if missing := {"family", "folder"} - set(options):
        raise UserError(f'data.options lacks {", ".join(sorted(missing))}: the stream "family" needs both')
    return open_family(config, options["family"], options["folder"], options.get("held_out", False), rank, world)
