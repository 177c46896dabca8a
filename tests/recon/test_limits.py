"""Options of a reconstruction that no fit can be made with."""

import dataclasses
from pathlib import Path

import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.configs.limits import check_limits
from viewtime.configs.schema.reconstruct import GaussianOptions, ReconstructConfig
from viewtime.configs.schema.reconstruct_scene import SceneOptions
from viewtime.errors import UserError
from viewtime.free_cameras import FreeCameras
from viewtime.grid import FrameGrid
from viewtime.recon.command import write_asset
from viewtime.recon.fitting.targets import split_views
from viewtime.recon.limits import LIMITS


def grid(cameras) -> FrameGrid:
    return FrameGrid(torch.zeros(4, 2, 3, 8, 8), torch.zeros(4, 2, dtype=torch.bool), cameras, 8.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gaussians": GaussianOptions(count=3)}, "--gaussians.count 3; must be at least 4"),
        ({"gaussians": GaussianOptions(control_points=0)}, "--gaussians.control-points 0; must be at least 1"),
        ({"gaussians": GaussianOptions(learning_rate=float("nan"))}, "--gaussians.learning-rate nan; must be"),
        ({"scene": SceneOptions(fov_y=0)}, "--scene.fov-y 0; must be 1 to 170"),
        ({"scene": SceneOptions(near=6)}, "--scene.near 6; must be 1e-06 to 1"),
    ],
)
def test_a_number_outside_its_limits_is_refused_before_anything_is_written(options, words, tmp_path):
    with pytest.raises(UserError, match=words):
        write_asset(grid(regular_orbit(4, 2)), ReconstructConfig(Path("g"), **options), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.json"))


def test_the_limits_are_of_options_that_exist_and_the_defaults_lie_within():
    check_limits(ReconstructConfig(Path("g")), LIMITS)
    assert {name.split(".")[0] for name in LIMITS} <= {field.name for field in dataclasses.fields(ReconstructConfig)}


@pytest.mark.parametrize("free", [False, True])
def test_views_that_are_held_out_leave_some_to_fit(free):
    cameras = FreeCameras.of_views(torch.eye(4).repeat(4, 1, 1), 2) if free else regular_orbit(4, 2)
    with pytest.raises(UserError, match=r"these are all 4 of the grid"):
        split_views(grid(cameras), (0, 1, 2, 3))
    with pytest.raises(UserError, match="each is named once"):
        split_views(grid(cameras), (1, 1))
    train, held_out = split_views(grid(cameras), (3, 1))
    assert held_out is not None
    assert (len(train.frames), len(held_out.frames)) == (2, 2)
