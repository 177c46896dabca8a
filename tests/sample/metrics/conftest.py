"""Small grids of striped spheres, rendered once per session."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from viewtime.cameras import Cameras, regular_orbit
from viewtime.grid import FrameGrid

ROOT = Path(__file__).resolve().parents[3]


def load_benchmark(name: str):
    """A script of benchmarks/, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def spheres() -> FrameGrid:
    """6 views × 8 frames at 48 × 48, RGBA."""
    return load_benchmark("metrics_scenes").random_spheres(4).render(regular_orbit(6, 8), size=48)


@pytest.fixture(scope="session")
def scenes():
    """Two scenes that can be seen from wrong azimuths; 12 views × 12 frames at 32 × 32."""

    def scene(seed: int):
        moving = load_benchmark("metrics_scenes").random_spheres(seed)
        orbit = regular_orbit(12, 12, azimuth_start=37.0 * seed)
        cache = {}

        def seen(wrong: torch.Tensor) -> FrameGrid:
            key = tuple(wrong.tolist())
            if key not in cache:
                cameras = Cameras(orbit.elevation, orbit.azimuth + wrong[:, None], orbit.distance, orbit.fov_y)
                cache[key] = moving.render(cameras, size=32)
            return cache[key]

        return seen

    return [scene(seed) for seed in range(2)]


def like(grid: FrameGrid, frames: torch.Tensor, given_views: int = 0) -> FrameGrid:
    """A prediction with the grid's cameras; its first views are marked as given."""
    known = torch.zeros(frames.shape[:2], dtype=torch.bool)
    known[:given_views] = True
    return FrameGrid(frames, known, grid.cameras, grid.fps)
