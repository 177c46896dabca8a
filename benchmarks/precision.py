"""What half precision and weights of 8 bits cost, part by part: the golden networks, every operator's result rounded.

    python benchmarks/precision.py [--write docs/gpu.md]     # dB to float32: bfloat16, float16, the defaults on CUDA, …

A processor computes half precision in its own ways, and slowly. Here tensors of half precision go through each
operator in float32 and its result is rounded, which is what a GPU's kernels do (they accumulate in float32).
Then comes the default of each part on CUDA (`viewtime.model.precision`), and with it every weight of the network in 8
bits: integers with a scale per output channel (`--int8`, which spares small layers; here none), and float8 (e4m3).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "model"))

from golden_files import NETWORKS, arrays, conditioning, fill, key_shapes, network, to_grid

from benchmarks.tables import write_table
from viewtime.model.denoiser import SCALINGS, NetworkDenoiser
from viewtime.model.eight_bits import hold_in_eight_bits, large_layers
from viewtime.model.precision import ON_CUDA, Dtypes
from viewtime.model.vae.config import VaeConfig
from viewtime.model.vae.decoder import Decoder
from viewtime.model.vae.encoder import FrameEncoder
from viewtime.model.vae.keys import published_name
from viewtime.sample.solver.samplers import euler
from viewtime.sample.solver.schedules import make_schedule

HALVES = (torch.bfloat16, torch.float16)
MOVES_ONLY = ("aten::_to_copy", "aten::copy_", "aten::detach")


class Rounded(TorchDispatchMode):
    """Operators on half precision run in float32 and round their result."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        floats = [leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        floats = [leaf for leaf in floats if leaf.is_floating_point()]
        halves = {leaf.dtype for leaf in floats} & set(HALVES)
        if not halves or func.is_view or func._schema.name in MOVES_ONLY or func._schema.is_mutable:
            return func(*args, **kwargs)
        wide = any(leaf.dtype == torch.float32 and leaf.ndim > 0 for leaf in floats)
        result = func(*tree_map(_widen, args), **tree_map(_widen, kwargs))
        return result if wide else tree_map(lambda leaf: _narrow(leaf, next(iter(halves))), result)


def _widen(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in HALVES else leaf


def _narrow(leaf: Any, dtype: torch.dtype) -> Any:
    return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.dtype == torch.float32 else leaf


def psnr(value: Tensor, truth: Tensor) -> float:
    """dB, with the span of the truth as the peak."""
    error = (value.float() - truth).square().mean()
    return float(10 * torch.log10((truth.max() - truth.min()).square() / error.clamp_min(1e-30)))


GUIDANCE_SCALE = 2.0
EXACT = 200.0  # dB


def float8_weights(module: nn.Module) -> None:
    """Round the weights that `hold_in_eight_bits` would hold to float8."""
    for layer in large_layers(module, smallest=1):
        layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn).to(layer.weight.dtype)


COLUMNS: dict[str, tuple[Dtypes, Callable[[nn.Module], object]]] = {
    "bfloat16": (dict.fromkeys(ON_CUDA, torch.bfloat16), nn.Module.eval),
    "float16": (dict.fromkeys(ON_CUDA, torch.float16), nn.Module.eval),
    "default on CUDA": (ON_CUDA, nn.Module.eval),
    "its weights in int8": (ON_CUDA, partial(hold_in_eight_bits, smallest=1)),
    "in float8": (ON_CUDA, float8_weights),
}
"""Format of each part, and what is done to the network."""


def vae_parts() -> tuple[FrameEncoder, Decoder]:
    """The golden VAE, frame by frame, which shrinks by 2."""
    sizes = {"channels": 32, "multipliers": (1, 2), "residual_blocks": 1}
    shapes = key_shapes("vae")
    used = {k: s for k, s in shapes["autoencoder_kl_mode_only"].items() if k.startswith(("encoder.", "quant_conv."))}
    encoder, decoder = FrameEncoder(VaeConfig(**sizes)), Decoder(VaeConfig(**sizes))
    for part, table in ((encoder, used), (decoder, shapes["decoder"])):
        fill(part, {name: published_name(name) for name in part.state_dict()}, table)
    return encoder, decoder


def pipeline(
    name: str,
    dtypes: Dtypes,
    device: str = "cpu",
    emulate: bool = True,
    hold: Callable[[nn.Module], object] = nn.Module.eval,
) -> dict[str, Tensor]:
    """Encode pictures, sample five guided steps conditioned on them, decode: the result of each part and of all.

    Args:
        hold: done to the network before it is used.
        emulate: round each operator's result; False leaves it to the device's own kernels.
    """
    data = arrays(f"traj_{name}")
    views = int(data.get("V", 1))
    parts = zip(vae_parts(), ("frame_encoder", "decoder"))
    encoder, decoder = (part.to(device, dtypes[key]) for part, key in parts)
    unet = network(name).to(device, dtypes["network"])
    hold(unet)
    positive, negative = (
        {key: value.to(device) for key, value in conditioning(name, data, views, 1, tag).items()}
        for tag in ("c_", "uc_")
    )
    shape = positive["concat"].shape
    pictures = torch.randn(
        *shape[:3], 3, 2 * shape[-2], 2 * shape[-1], generator=torch.Generator().manual_seed(0)
    ).tanh()
    frames = rearrange(pictures, "b v f c h w -> (b v f) c h w").to(device)
    with Rounded() if emulate else nullcontext():
        encoded = encoder(frames.to(dtypes["frame_encoder"])).float()
        positive["concat"] = rearrange(encoded, "(b v f) c h w -> b v f c h w", b=shape[0], v=shape[1])
        both = {key: torch.cat([negative[key], positive[key]]) for key in positive}
        denoiser = NetworkDenoiser(unet, SCALINGS["v"](), 4)

        def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
            unconditional, conditional = denoiser(
                torch.cat([x, x]), torch.full((2,), sigma, device=device), both
            ).chunk(2)
            return unconditional + GUIDANCE_SCALE * (conditional - unconditional)

        start = to_grid(name, data["noise"], views, 1).to(device)
        schedule = make_schedule("edm", len(data["sigmas"]) - 1, sigma_max=float(data["sigmas"][0]))
        one = denoise(start * schedule.initial_scale, float(schedule.sigmas[0]), 0)
        latents = euler(denoise, start * schedule.initial_scale, schedule)
        rows = rearrange(latents, "b v f c h w -> (b v f) c h w")
        decoded = decoder(rows.to(dtypes["decoder"])).float()
    made = {"encode": encoded, "one prediction": one, "five steps": latents, "whole pipeline": decoded}
    return {part: value.cpu() for part, value in made.items()}


@torch.no_grad()
def agreement(dtype: torch.dtype, device: str) -> dict[str, float]:
    """dB of a device's own kernels in one format to float32 on the CPU, which the golden tests hold."""
    found = {}
    for name in NETWORKS:
        truth = pipeline(name, dict.fromkeys(ON_CUDA, torch.float32))
        made = pipeline(name, dict.fromkeys(ON_CUDA, dtype), device, emulate=False)
        found |= {f"{name}, {part} (dB)": psnr(made[part], truth[part]) for part in truth}
    return found


def decode_alone(dtype: torch.dtype) -> Tensor:
    """The golden latent through the image decoder."""
    decoder = vae_parts()[1].to(dtype)
    with Rounded():
        return decoder(arrays("vae")["latent"].to(dtype)).float()


@torch.no_grad()
def measure() -> dict[str, dict[str, dict[str, float]]]:
    """network -> part -> column -> dB to float32."""
    float32 = dict.fromkeys(ON_CUDA, torch.float32)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in NETWORKS:
        truth = pipeline(name, float32)
        made = {column: pipeline(name, dtypes, hold=hold) for column, (dtypes, hold) in COLUMNS.items()}
        table[name] = {part: {column: psnr(made[column][part], truth[part]) for column in COLUMNS} for part in truth}
    truth = decode_alone(torch.float32)
    decoded = {column: psnr(decode_alone(dtypes["decoder"]), truth) for column, (dtypes, _) in COLUMNS.items()}
    table["vae"] = {"decode": decoded}
    return table


def lines(table: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """The table in Markdown; a part in float32 has no loss."""
    shown = ["| network, part | " + " | ".join(COLUMNS) + " |", "|---|" + "--:|" * len(COLUMNS)]
    for name, parts in table.items():
        for part, values in parts.items():
            cells = (f"{value:.1f}" if value < EXACT else "exact" for value in values.values())
            shown.append(f"| {name}, {part} | " + " | ".join(cells) + " |")
    return shown


def main() -> None:
    """Print the table; write it into a document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    document = parser.parse_args().write
    shown = lines(measure())
    print("\n".join(shown))
    if document is not None:
        write_table(document, "precision", shown, "python benchmarks/precision.py --write docs/gpu.md")


if __name__ == "__main__":
    main()
