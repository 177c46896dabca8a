"""Real-size SV4D forward on this machine, beside the same network written the obvious way.

    OMP_NUM_THREADS=1 python benchmarks/sv4d_forward.py [--dtype fp32|bf16] [--views 2] [--frames 2] [--size 16]
                                                        [--compile]

Weights are random and shared by both. The obvious way is what one writes from the papers: scores and softmax as
matrices, all of the one-token cross-attention, the rearrangement of the whole stream around every attention, Conv3d
over the grid, PyTorch's own linear layers and convolutions in its default memory format. The two take turns, after
one warm-up each; the ratio is that of the best times.
Needs about 9 GiB of memory in fp32.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
from einops import rearrange
from torch import Tensor, nn

from viewtime.model.memory_layout import channels_last
from viewtime.model.published.presets import load_model_config
from viewtime.model.sv4d.config import UNetConfig
from viewtime.model.sv4d.convolution import ImageConvolution, PointConvolution, SequenceConvolution
from viewtime.model.sv4d.linear import Linear
from viewtime.model.sv4d.transformer import TransformerBlock
from viewtime.model.sv4d.unet import VideoUNet


def obvious_convolution(layer: SequenceConvolution, x: Tensor) -> Tensor:
    """Conv3d over [B, C, L, S, 1], as the weights are shaped."""
    return nn.Conv3d.forward(layer, x[..., None])[..., 0]


def obvious_block(block: TransformerBlock, x: Tensor, token: Tensor) -> Tensor:
    """Move the whole stream to sequences, do everything there with full cross-attention, move it back."""
    group = block.self_attention.group
    B, F, V, S, _ = x.shape
    pattern = {"space": "(b f v) s 1 1 c", "view": "(b f s) v 1 1 c", "frame": "(b v s) f 1 1 c"}[group]
    sizes = {"b": B, "f": F, "v": V, "s": S}
    token = rearrange(token.expand(B, F, V, S, -1), f"b f v s c -> {pattern}").contiguous()
    stream = rearrange(x, f"b f v s c -> {pattern}").contiguous()
    if block.norm_mlp_in is not None and block.mlp_in is not None:
        stream = stream + block.mlp_in(block.norm_mlp_in(stream))
    attention, h = block.self_attention, block.norm_self(stream)
    query, key, value = (
        rearrange(project(h), "n l 1 1 (h d) -> n h l d", d=attention.head_dim)
        for project in (attention.query, attention.key, attention.value)
    )
    weights = (query @ key.transpose(-1, -2) / attention.head_dim**0.5).softmax(-1)
    stream = stream + attention.out(rearrange(weights @ value, "n h l d -> n l 1 1 (h d)"))
    stream = stream + block.cross_attention(block.norm_cross(stream), token)
    stream = stream + block.mlp(block.norm_mlp(stream))
    return rearrange(stream, f"{pattern} -> b f v s c", **sizes)


class Obvious:
    """The network's layers, run the obvious way: patches the classes while it is active."""

    def __init__(self, network: VideoUNet):
        self.network = network

    def __enter__(self) -> None:
        kinds = (Linear, ImageConvolution, PointConvolution, SequenceConvolution, TransformerBlock)
        self.saved = [(kind, kind.forward) for kind in kinds]
        Linear.forward = nn.Linear.forward  # type: ignore[method-assign]
        PointConvolution.forward = nn.Conv2d.forward  # type: ignore[method-assign]
        ImageConvolution.forward = nn.Conv2d.forward  # type: ignore[method-assign]
        SequenceConvolution.forward = obvious_convolution  # type: ignore[method-assign]
        TransformerBlock.forward = obvious_block  # type: ignore[method-assign]
        self._set("reference", torch.contiguous_format)
        for parameter in self.network.parameters():
            parameter.data = parameter.data.contiguous()

    def __exit__(self, *_: object) -> None:
        for kind, forward in self.saved:
            kind.forward = forward  # type: ignore[method-assign]
        self._set("sdpa", torch.channels_last)
        channels_last(self.network)

    def _set(self, backend: str, memory_format: torch.memory_format) -> None:
        self.network.memory_format = memory_format
        for module in self.network.modules():
            if hasattr(module, "backend"):
                module.backend = backend  # type: ignore[assignment]


def inputs(config: UNetConfig, views: int, frames: int, size: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    cond = {
        "concat": draw(1, 1, frames, 4, size, size),
        "vector": draw(1, views, frames, config.vector_dim),
        "image_tokens": draw(1, 1, frames, config.context_dim),
        "reference_views": draw(1, views, 4, size, size),
    }
    return draw(1, views, frames, 4, size, size), torch.full((1, views, frames), 0.3), cond


def fill(network: VideoUNet) -> None:
    """Random weights in seconds: all tensors are cut from one block of random numbers."""
    block = (torch.rand(1 << 22, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.04
    for parameter in network.parameters():
        flat = parameter.view(-1)
        for start in range(0, len(flat), len(block)):
            piece = flat[start : start + len(block)]
            piece.copy_(block[: len(piece)])


def timed(network: VideoUNet, arguments: tuple) -> tuple[float, float, Tensor]:
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.no_grad():
        result = network(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="sv4d")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="ours, as `viewtime sample --compile` does")
    options = parser.parse_args()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    with torch.device("meta"):
        network = VideoUNet(load_model_config(options.preset).network)
    network = network.to(dtype).to_empty(device="cpu").requires_grad_(False)
    fill(network)
    channels_last(network)
    arguments = inputs(network.config, options.views, options.frames, options.size)
    if options.compile:
        network.compile(dynamic=False)
    ours, obvious = [], []
    for _ in range(options.repeat + 1):
        ours.append(timed(network, arguments))
        with Obvious(network), torch.compiler.set_stance("force_eager"):
            obvious.append(timed(network, arguments))
        turn = [f"wall {run[0]:.2f} s, CPU {run[1]:.2f} s" for run in (ours[-1], obvious[-1])]
        print(f"turn {len(ours) - 1}: ours {turn[0]}; obvious {turn[1]}", flush=True)
    difference = (ours[0][2] - obvious[0][2]).abs().max() / obvious[0][2].abs().max()
    print(
        f"{options.preset}, {options.dtype}, {options.views} views × {options.frames} frames, latents {options.size}²"
    )
    for label, runs in (("ours", ours), ("obvious", obvious)):
        walls, processor = [run[0] for run in runs[1:]], [run[1] for run in runs[1:]]
        print(f"{label:8s} wall {min(walls):6.2f} s (best of {len(walls)}), CPU {min(processor):6.2f} s")
    best = [min(run[1] for run in runs[1:]) for runs in (ours, obvious)]
    wall = [min(run[0] for run in runs[1:]) for runs in (ours, obvious)]
    print(f"ratio    wall {wall[0] / wall[1]:.2f}, CPU {best[0] / best[1]:.2f}; relative difference {difference:.1e}")
    print(f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
