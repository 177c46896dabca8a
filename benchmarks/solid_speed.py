"""What a training step of mini's solid costs: its network, and volume rendering with and without empty cells.

    OMP_NUM_THREADS=1 python benchmarks/solid_speed.py [--weights mini-generalist]

CPU milliseconds a picture, forward and backward, four views at 32 rays a side of a solid that the weights draw behind a
box that covers a fifth of the picture; the dense rendering is the named baseline.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from viewtime.model.mini.frustum import SolidCameras  # noqa: E402
from viewtime.model.mini.rays import SLOPE, camera_axes  # noqa: E402
from viewtime.model.mini.solid import FAINT, render_densely, render_solid  # noqa: E402
from viewtime.sample.models.loading import load_model  # noqa: E402
from viewtime.sample.models.mini_model import MiniModel  # noqa: E402

PICTURES, VIEWS, RAYS, ROUNDS = 16, 4, 32, 3


def milliseconds(step: Callable[[], torch.Tensor]) -> float:
    """CPU time a picture of the step and its backward pass, the mean after a first round."""
    step().sum().backward()
    started = time.process_time()
    for _ in range(ROUNDS):
        step().sum().backward()
    return 1000 * (time.process_time() - started) / ROUNDS / PICTURES


def main() -> int:
    """Print one line a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="mini-generalist")
    model = load_model(parser.parse_args().weights, torch.device("cpu"), torch.float32)
    assert isinstance(model, MiniModel)
    frustum = model.network.frustum
    assert frustum is not None
    frustum.rays = RAYS
    frustum.requires_grad_(True)
    torch.manual_seed(0)
    side = 2 * frustum.side
    picture = torch.tensor([1.0, 1.0, 1.0, -1.0])[None, :, None, None].repeat(PICTURES, 1, side, side)
    picture[:, :, side // 4 : -side // 4, 5 * side // 16 : -5 * side // 16] = torch.rand(PICTURES, 4, 1, 1)
    picture[:, 3:] = picture[:, 3:].sign()
    axes = camera_axes(torch.full((PICTURES, VIEWS + 1), 12.0), 360 * torch.rand(PICTURES, VIEWS + 1))
    slope = torch.full((PICTURES,), SLOPE)
    cameras = SolidCameras(axes[:, 0], torch.full((PICTURES,), 12.0), axes[:, 1:], slope)
    drawn = milliseconds(lambda: frustum.fill(picture, cameras, 2))
    solid = frustum.fill(picture, cameras, 2).detach().requires_grad_()
    looking = (cameras.axes_in, cameras.axes, slope, RAYS)
    dense, sparse = (milliseconds(lambda r=render: r(solid, *looking)) for render in (render_densely, render_solid))
    full = float((solid[:, 3] > FAINT).float().mean())
    print(f"network and solid     {drawn:6.1f} ms a picture")
    print(f"rendering, all cells  {dense:6.1f} ms")
    print(
        f"rendering, full cells {sparse:6.1f} ms: {dense / sparse:.1f} times as fast, with {full:.0%} of the cells full"
    )
    print(f"a step of both: {(drawn + dense) / (drawn + sparse):.2f} times as many pictures a CPU second")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
