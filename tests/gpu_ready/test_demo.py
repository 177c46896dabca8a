"""The demo's commands on a machine with CUDA and the core install, on the strict pretended device: they run, and give
what the CPU gives."""

import sys
from pathlib import Path

import pytest
import torch

from tests.recon.strict_device import StrictDevice
from viewtime.cli import main as viewtime
from viewtime.grid import FrameGrid
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.render.gsplat_cuda import gsplat_works

VIDEO = Path(__file__).resolve().parents[2] / "examples" / "knight.mp4"
SHORT = ("--gaussians.static-iterations", "3", "--gaussians.dynamic-iterations", "3", "--gaussians.count", "300")


def run(out: Path, *device: str) -> None:
    """`make demo`'s commands, shorter; a number format for both devices, since they differ in their default."""
    sample = ("--frames", "3", "--sampler.steps", "2", "--preprocess.crop", "none", "--dtype", "float32")
    for words in (
        ("sample", "--video", VIDEO, "--out", out / "sample", "--weights", "mini", *sample),
        ("reconstruct", out / "sample" / "grid", "--preset", "fast", "--out", out / "asset", *SHORT),
    ):
        assert viewtime([str(word) for word in (*words, *device)]) == 0


@pytest.mark.slow
def test_the_demo_on_the_device_gives_what_the_cpu_gives(tmp_path, monkeypatch):
    run(tmp_path / "here")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # asks the driver
    monkeypatch.setitem(sys.modules, "gsplat", None)  # the core install has none
    gsplat_works.cache_clear()
    with StrictDevice():
        run(tmp_path / "there", "--device", "cuda")
    here, there = (FrameGrid.load(tmp_path / name / "sample" / "grid") for name in ("here", "there"))
    torch.testing.assert_close(there.frames, here.frames, atol=2 / 255, rtol=0)
    assets = (GaussianAsset.load(tmp_path / name / "asset") for name in ("here", "there"))
    drawn, drawn_there = (asset.render_grid(here.orbit, 32, 32).frames for asset in assets)
    assert float(drawn[:, :, 3].mean()) > 0.05
    assert float((drawn_there - drawn).abs().mean()) < 2e-3
