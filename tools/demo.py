"""`make demo`: one video in, a grid of views × frames, a 4D asset out; the truth of the example beside it.

Runs the commands that a user would type, and skips nothing. Another video: `python tools/demo.py --video in.mp4`, which
takes the generalist's weights; then there is no truth to compare with.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from make_example import RENDER_OPTIONS  # noqa: E402

from viewtime.cli import main as viewtime  # noqa: E402
from viewtime.grid import FrameGrid  # noqa: E402

EXAMPLE_VIDEO = ROOT / "examples" / "knight.mp4"
EXAMPLE_ASSET = ROOT / "examples" / "knight.glb"
WHAT_IT_KNOWS = {
    "mini": "viewtime-mini knows two small humanoids, a knight and a barbarian, and shows them blurred: mask IoU 0.75 "
    "on held-out clips, where the input copied and mirrored has 0.57 (model/cards/mini.md)",
    "mini-generalist": "viewtime-mini-generalist makes the rough shape of any object: mask IoU 0.63 on held-out "
    "kinds, where the input copied and mirrored has 0.51 (model/cards/mini_generalist.md)",
}


def run(*arguments: object) -> None:
    """Show a command and run it; stop the demo where it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ viewtime {shlex.join(words)}", flush=True)
    code = viewtime(words)
    if code != 0:
        raise SystemExit(code)


def demo(video: Path, weights: str, out: Path) -> list[Path]:
    """Sample, reconstruct and, for the example, compare with the truth; returns the paths to look at."""
    truth, framing = None, ()
    if video == EXAMPLE_VIDEO:
        run("render", EXAMPLE_ASSET, "--out", out / "truth", "--size", "64", *RENDER_OPTIONS)
        truth = next((out / "truth" / "grids").glob("*/grid.json")).parent
        # The video is framed as its truth already; how far the camera stood is known here, and only here.
        distance = FrameGrid.load(truth).cameras.distance[0, 0].item()
        framing = ("--preprocess.crop", "none", "--camera.distance", f"{distance:.6f}")
    run("sample", "--video", video, "--weights", weights, "--out", out / "sample", *framing)
    run("reconstruct", out / "sample" / "grid", "--preset", "fast", "--out", out / "asset")
    looked_at = [
        out / "sample" / "grid",
        out / "sample" / "contact_sheet.png",
        out / "asset" / "orbit.mp4",
        out / "asset" / "asset.glb",
    ]
    if truth is not None:
        metrics = ("--metrics", "object_crop_psnr", "mask_iou", "lpips_star", "flicker")
        run("evaluate", "--pred", out / "sample" / "grid", "--gt", truth, "--out", out / "evaluation", *metrics)
        run("reconstruct", truth, "--preset", "fast", "--out", out / "truth_asset")
        looked_at += [out / "truth_asset" / "orbit.mp4", out / "truth_asset" / "asset.glb"]
    return looked_at


def main() -> int:
    """Parse the two options and print what to look at last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, default=EXAMPLE_VIDEO)
    parser.add_argument("--out", type=Path, help="default: runs/demo, for your own video runs/demo-NAME")
    options = parser.parse_args()
    started = time.monotonic()
    video = options.video.resolve()
    weights = "mini" if video == EXAMPLE_VIDEO else "mini-generalist"
    own = "" if video == EXAMPLE_VIDEO else f"-{video.stem}"
    looked_at = demo(video, weights, options.out or ROOT / "runs" / f"demo{own}")
    print(f"\n{WHAT_IT_KNOWS[weights]}")
    print(f"done in {time.monotonic() - started:.0f} s; look at")
    for path in looked_at:
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
