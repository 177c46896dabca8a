"""Models and streams by name: the two seams between the loop and everything that it trains."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn

from viewtime.configs.schema.train import ModelSection
from viewtime.errors import UserError
from viewtime.weights import load_weights

# factory(options, batch_size=, seed=, rank=, world=) -> BatchStream
STREAMS = {
    "grids": "viewtime.train.streams.batches:grid_loader",
    "family": "viewtime.train.streams.batches:family_loader",
    "captioned": "viewtime.data.live.captioned:captioned_stream",
    "video-grids": "viewtime.train.video_grids:video_grid_stream",
    "synthetic": "viewtime.train.streams.synthetic:synthetic_stream",
}


class BatchStream(Protocol):
    """Endless batches of one process: objects or dictionaries with `x0` [B, V, F, C, H, W] in [−1, 1] and `cond`.

    A stream may also have `ids`, names of the samples, in its batches; errors then name the sample.
    """

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, Any]:
        """Position behind the last batch handed out, as plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...


def resolve(reference: str, table: dict[str, str], what: str) -> Any:
    """The object behind a name of the table or behind "package.module:name".

    Raises:
        UserError: unknown name, or the module or its member does not exist.
    """
    target = table.get(reference, reference)
    module_name, colon, member = target.partition(":")
    if not colon:
        raise UserError(f"unknown {what} {reference!r}; known: {', '.join(table)}; or give package.module:name")
    try:
        return getattr(importlib.import_module(module_name), member)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{what} {reference!r} cannot be loaded: {error}") from error


def build_model(section: ModelSection) -> nn.Module:
    """The denoiser `model(x, sigma, cond) -> x0` on the CPU, with `section.weights` loaded into its network.

    Parameters end in float32, also those of a file in half precision: the optimiser's steps are smaller than its grid.

    Raises:
        UserError: unknown model, wrong config, or weights that do not fit.
    """
    if ":" in section.name:
        denoiser = resolve(section.name, {}, "model")(**section.config)
    else:
        from viewtime.model.registry import build_denoiser

        denoiser = build_denoiser(section.name, section.config)
    if not isinstance(denoiser, nn.Module):
        raise UserError(f"model {section.name!r} built a {type(denoiser).__name__}; a torch module is needed")
    if section.weights is not None:
        from viewtime.model.weight_names import find_weights

        path = find_weights(section.weights)
        load_weights(network_of(denoiser), path, dtype=torch.float32, grown=section.grown)
    return denoiser


def network_of(denoiser: nn.Module) -> nn.Module:
    """The network inside a denoiser: what weight files hold."""
    inner = getattr(denoiser, "network", denoiser)
    return inner if isinstance(inner, nn.Module) else denoiser
