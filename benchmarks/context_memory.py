"""What sharing a grid over GPUs saves in 4Real-Video's training: counted, without a GPU and without memory.

    python benchmarks/context_memory.py                      # the paper's grid: 8 x 8 cells of 72 x 128 pixels
    python benchmarks/context_memory.py --frames 32          # four times as long

One micro-batch of one grid through the soft two-stream model at the paper's size (width 1024, depth 24), bf16, a frozen
base: per process, the activations that the forward pass keeps, the products, and what it sends: a process keeps its
part of what it exchanges, so (G - 1) / G of the tokens of its views, twice a layer forward and twice backward.
"""

from __future__ import annotations

import argparse

import torch

from viewtime.model.registry import build_denoiser
from viewtime.train.cost import pretended_group, step_cost
from viewtime.train.prepare import checkpoint_blocks
from viewtime.train.streams.batches import Batch

BYTES_BFLOAT16 = 2
EXCHANGES = 4  # of a layer: to frames and back, forward and backward


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("views", 8), ("frames", 8), ("height", 72), ("width", 128), ("depth", 24)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--checkpointing", action="store_true", help="recompute the blocks' activations")
    arguments = parser.parse_args()
    V, F, H, W = arguments.views, arguments.frames, arguments.height, arguments.width
    base = {"text_width": 0, "depth": arguments.depth, "frame_size": [H, W]}
    print(f"{V} x {F} cells of {H} x {W} pixels, per process")
    print(f"{'processes':>9s} {'kept GB':>9s} {'TFLOP':>8s} {'sent GB':>8s}")
    for count in (1, 2, 4, 8):
        with torch.device("meta"):
            denoiser = build_denoiser("4real", {"base": base})
            x = torch.empty(1, V, F, 3, H, W)
            cond = {"known": torch.empty(1, V, F, dtype=torch.bool), "known_frames": x}
            sigma = torch.empty(1, V, F)
        network = denoiser.network
        if arguments.checkpointing:
            checkpoint_blocks(network)
        with pretended_group(network, count):
            cost = step_cost(denoiser, Batch(x, cond, []), sigma, torch.bfloat16)
        config = network.config.base  # type: ignore[union-attr]
        tokens = V * F * (H // config.patch) * (W // config.patch) * config.width
        sent = EXCHANGES * config.depth * BYTES_BFLOAT16 * tokens / count * (count - 1) / count
        print(f"{count:9d} {cost.kept / 1e9:9.2f} {cost.flops / 1e12:8.2f} {sent / 1e9:8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
