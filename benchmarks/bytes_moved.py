"""Bytes that one evaluation of a published network moves on a GPU, by kind of operation, counted without a GPU.

    python benchmarks/bytes_moved.py sv4d2 [--against CHECKOUT] [--compile]

One call of the network by a guided step at the published size, both branches of guidance in its batch: the inputs and
outputs of each operator that PyTorch would launch (benchmarks/fake_gpu.py). What a library does inside an operator,
such as a convolution that lays its input out anew, is not seen. CHECKOUT is another checkout of the project
(`git worktree add ../before 90315e1`), whose network is counted by the counter of this one. --compile adds the bytes
of the kernels into which `torch.compile` would fuse the operators on an H200 (benchmarks/fake_inductor.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PRODUCTS = ("addmm", "addmm_", "mm", "bmm", "baddbmm")
COPIES = ("clone", "copy_", "cat", "stack", "_to_copy")
KINDS = (
    "matrix products",
    "convolutions",
    "attention",
    "attention's permutations",
    "gated MLP between its products",
    "layer norm",
    "group norm",
    "copies of images",
    "SiLU",
    "blend",
    "sums",
    "other",
)


def kind_of(module: str, operator: str) -> str:
    """Which of `KINDS` an operator is, called in the `forward` of a module of this class."""
    by_operator = {"convolution": "convolutions", "native_layer_norm": "layer norm", "native_group_norm": "group norm"}
    if operator in PRODUCTS:
        return "matrix products"
    if "scaled_dot_product" in operator:
        return "attention"
    if module == "Blend":
        return "blend"
    if module == "GatedMLP":
        return "gated MLP between its products"
    if operator in COPIES:
        attention = module in ("SelfAttention", "TransformerBlock")
        return "attention's permutations" if attention else "copies of images"
    if operator in ("silu", "silu_"):
        return "SiLU"
    return by_operator.get(operator, "sums" if operator in ("add", "add_") else "other")


def measure(name: str, compiled: bool) -> dict[str, int]:
    """Bytes of each kind, of all, and of all compiled: the network of the checkout that stands first on the path."""
    import torch
    from torch import nn

    import benchmarks

    benchmarks.__path__ = [str(ROOT / "benchmarks")]  # the counter and the work are this checkout's
    import viewtime
    from benchmarks.fake_gpu import fake_gpu
    from benchmarks.fake_inductor import fused_bytes
    from benchmarks.gpu_jobs import JOBS, Memory

    assert Path(viewtime.__file__).is_relative_to(Path.cwd()), f"{viewtime.__file__} is not of this checkout"
    calls, inside, moved = [], [""], Counter[str]()

    def enter(module: nn.Module, _: Any) -> None:
        inside.append(type(module).__name__)

    def leave(*_: Any) -> None:
        inside.pop()

    def count(operator: Any, size: int) -> None:
        if operator.__name__ != "_unsafe_view":  # a view that its schema does not say
            moved[kind_of(inside[-1], operator.__name__)] += size

    with fake_gpu() as gpu, torch.no_grad():
        job = JOBS[name](Memory())
        network = job.module.get_submodule("network")
        hook = network.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
        job.pieces["conditions"]()
        job.pieces["step"]()
        hook.remove()
        hooks = [
            nn.modules.module.register_module_forward_pre_hook(enter),
            nn.modules.module.register_module_forward_hook(leave),
        ]
        with gpu.record(count):
            network(*calls[0])
        for hook in hooks:
            hook.remove()
        found = {kind: moved[kind] for kind in KINDS}
        found["all"] = sum(moved.values())
        if compiled:
            found["all, compiled"] = fused_bytes(gpu, network, calls[0])
    return found


def run_in(checkout: Path, name: str, compiled: bool) -> dict[str, int]:
    """`measure` in a process that imports from this checkout."""
    command = [sys.executable, __file__, name, "--inside", *(["--compile"] if compiled else [])]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    found = subprocess.run(command, env=environment, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Print the table, or as the process inside, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("svd-xt", "sv3d-u", "sv3d-p", "sv4d", "sv4d2", "sv4d2-8views"))
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(options.name, options.compile)))
        return
    sides = [ROOT] if options.against is None else [ROOT, options.against.resolve()]
    found = [run_in(side, options.name, options.compile) for side in sides]
    print(f"{options.name + ', GB':34s}" + "".join(f"{side:>9s}" for side in ("here", "against")[: len(sides)]))
    for kind in found[0]:
        ratio = f"{found[0][kind] / found[1][kind]:9.2f}" if len(sides) > 1 and found[1][kind] else ""
        print(f"{kind:34s}" + "".join(f"{side[kind] / 1e9:9.1f}" for side in found) + ratio)


if __name__ == "__main__":
    main()
