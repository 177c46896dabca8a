"""Published names of the VAE's tensors; ours differ only where the published ones do not say what a thing is."""

from __future__ import annotations

TEMPORAL = {
    "temporal.norm_in": "time_stack.in_layers.0",
    "temporal.conv_in": "time_stack.in_layers.2",
    "temporal.norm_out": "time_stack.out_layers.0",
    "temporal.conv_out": "time_stack.out_layers.3",
}


def published_name(name: str) -> str:
    """Our name of a tensor of `Decoder` or `FrameEncoder` -> the published one, relative to the same module."""
    for ours, theirs in TEMPORAL.items():
        if f".{ours}." in name:
            return name.replace(f".{ours}.", f".{theirs}.")
    return name
