"""Peak memory of `sample.py` against the length of the video: it must not grow with F.

    python benchmarks/sampling_memory.py [--frames 21 84] [--size 64]

Each length runs in its own process, with a random mini network, SV4D's plan and windows of 5 frames; printed are the
peak resident memory and its ratio to the shortest video.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def sample(frames: int, size: int) -> None:
    """Sample one grid in this process and print its peak memory in MiB."""
    import numpy as np

    from viewtime.cli import run_command
    from viewtime.model.registry import build_network, resolved_config
    from viewtime.video import write_video
    from viewtime.weights import save_weights

    network = build_network("mini", {"size": size, "width": 96, "depth": 2, "head_dim": 48})
    y, x = np.mgrid[:256, :256]
    clip = np.full((frames, 256, 256, 3), 255, np.uint8)
    for index, frame in enumerate(clip):
        frame[(x - 100 - index % 40) ** 2 + (y - 128) ** 2 < 70**2] = (200, 40, 40)
    with tempfile.TemporaryDirectory() as folder:
        record = {"model": {"name": "mini", "config": resolved_config(network)}}
        weights = save_weights(Path(folder) / "mini.safetensors", network.state_dict(), record)
        video = write_video(Path(folder) / "in.mp4", clip, 12.0)
        argv = ["--video", str(video), "--weights", str(weights), "--out", str(Path(folder) / "out")]
        argv += ["--sampler.steps", "2", "--plan.kind", "sv4d", "--plan.window-frames", "5", "--device", "cpu"]
        if run_command("sample", argv, prog="sample.py"):
            raise SystemExit(1)
    print(f"PEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}")


def main() -> None:
    """Compare lengths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[21, 84])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sample(options.one, options.size)
        return
    first = None
    for frames in options.frames:
        argv = [sys.executable, __file__, "--one", str(frames), "--size", str(options.size)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        peak = float(done.stdout.split("PEAK")[1])
        first = first or peak
        print(f"F = {frames:3d}: peak {peak:7.1f} MiB, {peak / first:.3f} of F = {options.frames[0]}")


if __name__ == "__main__":
    main()
