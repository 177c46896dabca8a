"""A published model at its full size through `sample.py` on this CPU, killed after its first window and resumed.

    python benchmarks/full_size_run.py --out FOLDER [--preset sv4d2-8views] [--dtype float32] [--steps 2]

Writes a file of random weights in the published form (FOLDER/PRESET.safetensors, removed at the end), samples a short
video at 64 pixels, kills the process when the first window is finished, samples again to the end, and prints the peak
of resident memory of both processes over the bytes of the weights in the format that was used. Exit code 1 where a peak
is over 1.15 times the weights or the second process did not go on from the first one's window.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from viewtime.grid import FrameGrid
from viewtime.model.published.presets import load_model_config
from viewtime.model.published.published_keys import published_manifest, used_names
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.weights import TensorInfo, write_stream

ROOT = Path(__file__).resolve().parents[1]
LARGEST_SHARE = 1.15  # of the weights' bytes
POOL = 1 << 18  # random numbers that all tensors are cut from
SIZE = 64  # pixels
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def write_random_weights(path: Path, config: VideoModelConfig, dtype: torch.dtype = torch.float16) -> Path:
    """Every tensor that the published code builds, used or not; matrices keep a signal's size."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0))
    manifest = published_manifest(config)

    def data() -> Iterator[memoryview]:
        for number, (name, shape) in enumerate(manifest.items()):
            count = torch.Size(shape).numel()
            values = pool.roll(number * 7919).repeat(-(-count // POOL))[:count]
            if len(shape) > 1:
                values = values * 0.5 / max(1, count // shape[0]) ** 0.5
            else:
                values = 0.02 * values + float(name.endswith("weight"))
            yield values.to(dtype).view(torch.uint8).numpy().data

    described = {name: TensorInfo(dtype, tuple(shape)) for name, shape in manifest.items()}
    return write_stream(path, described, data(), {})


def weight_bytes(config: VideoModelConfig, dtype: torch.dtype) -> int:
    """Bytes of the tensors that the model uses."""
    return sum(torch.Size(shape).numel() for _, shape in used_names(config).values()) * dtype.itemsize


def sample(arguments: list[str], stop_at: Path | None = None) -> tuple[int, float, float, str]:
    """Run sample.py; (exit code, peak bytes, seconds, what it said). Killed once `stop_at` is there."""
    began = time.monotonic()
    command = [sys.executable, "sample.py", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if stop_at is not None:
        while process.poll() is None and not stop_at.is_file():
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * 1024, time.monotonic() - began, said


def main() -> int:
    """0 where both promises hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="sv4d2-8views")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    options = parser.parse_args()
    config = load_model_config(options.preset)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    file = write_random_weights(out / f"{options.preset}.safetensors", config)
    print(f"{file.name}: {file.stat().st_size / 1e9:.2f} GB, written in {time.monotonic() - began:.0f} s", flush=True)
    frames = 2 * config.frames - 1  # two windows that share a frame
    run = out / "run"
    arguments = [
        "--video", "examples/knight.mp4", "--weights", str(file), "--model", options.preset, "--out", str(run),
        "--frames", str(frames), "--size", str(SIZE), "--sampler.steps", str(options.steps), "--device", "cpu",
        "--dtype", options.dtype, "--memory.chunk", "1",
    ]  # fmt: skip
    weights = weight_bytes(config, DTYPES[options.dtype])
    first = run / "windows" / "window_0000.safetensors"
    try:
        killed = sample(arguments, stop_at=first)
        written = first.stat().st_mtime_ns
        _, peak, seconds, _ = killed
        print(f"killed after a window: {seconds:.0f} s, peak {peak / 1e9:.2f} GB, {peak / weights:.3f} of the weights")
        code, peak_again, seconds, said = sample([*arguments, "--keep-windows"])
        resumed = "resuming: 1 of 2 windows" in said and first.stat().st_mtime_ns == written
        if code:
            print(said)
        print(
            f"resumed to the end: exit code {code}, {seconds:.0f} s, peak {peak_again / 1e9:.2f} GB, "
            f"{peak_again / weights:.3f} of the weights; first window kept: {resumed}"
        )
        made = FrameGrid.load(run / "grid").shape if code == 0 else "none"
        print(f"weights in {options.dtype}: {weights / 1e9:.2f} GB; grid {made}")
    finally:
        file.unlink()
    return int(code != 0 or not resumed or max(peak, peak_again) > LARGEST_SHARE * weights)


if __name__ == "__main__":
    raise SystemExit(main())
