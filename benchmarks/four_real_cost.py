"""Cost of the ways of joining rows and columns, at equal width and depth, as ratios to sequential interleaving.

    python benchmarks/four_real_cost.py                       # a small model on the CPU
    python benchmarks/four_real_cost.py --width 1024 --depth 24 --size 96 --views 8 --frames 8 --device cuda

Each variant does the same forward pass (no gradient) over one grid. Rounds go through all variants in turn, so that
another load on the machine meets all of them; the median counts. Memory is the peak of what the pass allocates
beyond weights and inputs.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from viewtime.model.four_real.config import VARIANTS, BaseConfig, GridConfig
from viewtime.model.four_real.grid import GridModel

BASELINE = "sequential"


def inputs(arguments: argparse.Namespace) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """One random grid with its first row and column known."""
    V, F, side = arguments.views, arguments.frames, arguments.size
    x = torch.randn(1, V, F, 3, side, side, device=arguments.device)
    known = torch.zeros(1, V, F, dtype=torch.bool, device=arguments.device)
    known[:, 0], known[:, :, 0] = True, True
    label = torch.full((1, V, F), 500.0, device=arguments.device)
    return x, label, {"known": known, "known_frames": x * known[..., None, None, None]}


@torch.no_grad()
def seconds(model: GridModel, grid: tuple) -> float:
    """One pass: device time on CUDA, CPU seconds of the process elsewhere (robust against other processes)."""
    if grid[0].is_cuda:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        model(*grid)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    started = time.process_time()
    model(*grid)
    return time.process_time() - started


@torch.no_grad()
def peak_bytes(model: GridModel, grid: tuple) -> int:
    """Peak of the memory that one pass allocates."""
    if grid[0].is_cuda:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        model(*grid)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        model(*grid)
    raw = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = [event for event in raw if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def attention_flops(q: tuple, k: tuple, v: tuple, *_: object, **__: object) -> int:
    """Of one attention call, which PyTorch counts on CUDA only: q [N, heads, L, d], k and v [N, heads, S, d]."""
    N, heads, L, d = q
    return 2 * N * heads * L * k[2] * (d + v[3])


@torch.no_grad()
def flops(model: GridModel, grid: tuple) -> int:
    """Multiplications and additions of matrix products and attention."""
    cpu_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={cpu_attention: attention_flops}) as counter:
        model(*grid)
    return counter.get_total_flops()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 128), ("depth", 4), ("size", 32), ("views", 6), ("frames", 6), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    head_dim = 64 if arguments.width % 64 == 0 else 32
    base = BaseConfig(
        width=arguments.width,
        depth=arguments.depth,
        head_dim=head_dim,
        text_width=0,
        frame_size=(arguments.size, arguments.size),
    )
    models = {name: GridModel(GridConfig(base, name)).to(arguments.device).eval() for name in VARIANTS}
    grid = inputs(arguments)
    times: dict[str, list[float]] = {name: [] for name in models}
    for round_index in range(arguments.rounds + 1):
        for name, model in models.items():
            spent = seconds(model, grid)
            if round_index:  # the first round warms up
                times[name].append(spent)
    rows = {
        name: (
            statistics.median(times[name]),
            peak_bytes(model, grid),
            flops(model, grid),
            sum(p.numel() for p in model.parameters()),
        )
        for name, model in models.items()
    }
    V, F, side = arguments.views, arguments.frames, arguments.size
    print(f"width {base.width}, depth {base.depth}, grid {V} x {F} of {side} x {side} pixels, {arguments.device}")
    print(f"{'variant':12s} {'time':>9s} {'ratio':>6s} {'peak memory':>12s} {'ratio':>6s} {'FLOPs':>10s} {'ratio':>6s} {'parameters':>11s} {'ratio':>6s}")  # fmt: skip  # noqa: E501
    for name in (BASELINE, *(name for name in VARIANTS if name != BASELINE)):
        took, memory, work, parameters = rows[name]
        ratios = [value / reference for value, reference in zip(rows[name], rows[BASELINE], strict=True)]
        print(
            f"{name:12s} {took:8.3f}s {ratios[0]:6.2f} {memory / 2**20:9.1f} MiB {ratios[1]:5.2f} "
            f"{work / 1e9:8.2f} G {ratios[2]:6.2f} {parameters / 1e6:9.2f} M {ratios[3]:6.2f}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
