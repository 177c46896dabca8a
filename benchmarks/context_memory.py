"""What sharing a grid over GPUs saves in training: counted, without a GPU and without memory.

    python benchmarks/context_memory.py                      # 4Real-Video's grid: 8 x 8 cells of 72 x 128 pixels
    python benchmarks/context_memory.py --frames 32          # four times as long
    python benchmarks/context_memory.py --model sv4d2        # 4 x 12 cells of 576 pixels, as its paper trains it

One micro-batch of one grid through the model at its paper's size, bf16: per process, the activations that the forward
pass keeps, the products, and what it sends forward and backward (a process keeps its part of what it exchanges).
4Real-Video is the soft two-stream model (width 1024, depth 24) on a frozen base; of SV4D's family everything trains.
"""

from __future__ import annotations

import argparse

import torch

from viewtime.model.denoiser import NetworkDenoiser
from viewtime.model.published.presets import load_model_config
from viewtime.model.registry import build_denoiser
from viewtime.model.video_model import training_denoiser
from viewtime.train.cost import pretended_group, step_cost
from viewtime.train.prepare import checkpoint_blocks
from viewtime.train.streams.batches import Batch

SV4D = ("sv4d", "sv4d2", "sv4d2-8views")


def four_real(arguments: argparse.Namespace) -> tuple[NetworkDenoiser, Batch]:
    """The model and a grid of pixels, both without memory."""
    V, F = arguments.views or 8, arguments.frames or 8
    H, W = arguments.height or 72, arguments.width or 128
    denoiser = build_denoiser("4real", {"base": {"text_width": 0, "depth": 24, "frame_size": [H, W]}})
    if arguments.checkpointing:
        checkpoint_blocks(denoiser.network)
    x = torch.empty(1, V, F, 3, H, W)
    return denoiser, Batch(x, {"known": torch.empty(1, V, F, dtype=torch.bool), "known_frames": x}, [])


def video_grid(arguments: argparse.Namespace) -> tuple[NetworkDenoiser, Batch]:
    """The same of SV4D's family, on latents."""
    config = load_model_config(arguments.model)
    V, F = arguments.views or config.views, arguments.frames or config.frames
    H, W = (size // 8 for size in (arguments.height or config.image_size, arguments.width or config.image_size))
    cond = {
        "concat": torch.empty(1, 1, F, 4, H, W),
        "vector": torch.empty(1, V, F, config.network.vector_dim),
        "image_tokens": torch.empty(1, 1, F, config.network.context_dim),
        "reference_views": torch.empty(1, V, 4, H, W),
    }
    denoiser = training_denoiser(arguments.model, gradient_checkpointing=arguments.checkpointing)
    return denoiser, Batch(torch.empty(1, V, F, 4, H, W), cond, [])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("4real", *SV4D), default="4real")
    for name in ("views", "frames", "height", "width"):
        parser.add_argument(f"--{name}", type=int, help="by default the paper's; height and width in pixels")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--checkpointing", action="store_true", help="recompute the blocks' activations")
    arguments = parser.parse_args()
    for count in arguments.processes:
        with torch.device("meta"):
            denoiser, batch = (four_real if arguments.model == "4real" else video_grid)(arguments)
            sigma = torch.empty(batch.x0.shape[:3])
        if count == arguments.processes[0]:
            print(f"{arguments.model}: grid {list(batch.x0.shape)}, per process")
            print(f"{'processes':>9s} {'kept GB':>9s} {'TFLOP':>8s} {'sent GB':>8s}")
        with pretended_group(denoiser.network, count) as sent:
            cost = step_cost(denoiser, batch, sigma, torch.bfloat16, sent)
        print(f"{count:9d} {cost.kept / 1e9:9.2f} {cost.flops / 1e12:8.2f} {cost.sent / 1e9:8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
