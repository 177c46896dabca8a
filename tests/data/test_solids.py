"""What an object fills: carved where cameras see past it, and laid where the input view's frustum says it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from viewtime.configs.schema.data import OnTheFly
from viewtime.data.augment import mirror, reverse_time
from viewtime.data.creatures.scene import creature_scene
from viewtime.data.live.scene_renderer import SceneRenderer, scattered_orbit, usual_views
from viewtime.data.samples import GridSample, generator_for
from viewtime.data.solids import CELLS, REACH, Solid, carve, in_frustum
from viewtime.model.mini.rays import camera_axes, slope_of
from viewtime.model.mini.solid import render_solid

OPTIONS = OnTheFly(orbit="scattered", solid=True, fov_min=30, fov_max=30)


@pytest.fixture(scope="module")
def sample() -> GridSample:
    scene = creature_scene(np.random.default_rng(3))
    return SceneRenderer(12, 2, 64, 6, OPTIONS).draw("test", "creature", scene, scene.clips[0], generator_for(2))


def overlap_of_views(sample: GridSample) -> torch.Tensor:
    """IoU [V, F] of the solid, laid in view 0's frustum and rendered from all views, with their alpha."""
    assert sample.frames is not None
    assert sample.solid is not None
    full = in_frustum(sample.solid, sample.cameras, 32)
    solid = torch.cat([torch.zeros(len(full), 3, 32, 32, 32), 3.0 * full[:, None]], dim=1)
    axes = camera_axes(sample.cameras.elevation, sample.cameras.azimuth).transpose(0, 1)  # [F, V, 3, 3]
    slope = slope_of(torch.tensor(sample.cameras.fov_y)).expand(len(full))
    made = render_solid(solid, axes[:, 0], axes, slope, 64)[:, :, 3].transpose(0, 1) > 0
    true = sample.frames[:, :, 3] > 127
    return (made & true).sum((-1, -2)) / (made | true).sum((-1, -2))


def test_the_carved_solid_covers_what_every_view_shows(sample: GridSample) -> None:
    assert overlap_of_views(sample).min() > 0.7


@pytest.mark.parametrize("change", [mirror, reverse_time])
def test_it_follows_the_pictures_through_augmentations(sample: GridSample, change) -> None:
    changed = change(sample)
    assert torch.allclose(overlap_of_views(changed).sort(dim=1)[0], overlap_of_views(sample).sort(dim=1)[0], atol=0.06)
    wrong = GridSample("x", "x", changed.frames, changed.cameras, 1.0, solid=sample.solid)
    assert overlap_of_views(wrong).mean() < overlap_of_views(changed).mean() - 0.05


def test_a_wall_hides_what_is_behind_it_and_nothing_else() -> None:
    """One camera on −y, 2 away, sees a wall at y = 0 in the left half of its picture and nothing in the right."""
    depth = np.zeros((1, 1, 32, 32), np.float32)
    depth[..., :16] = 2.0
    camera = np.eye(4, dtype=np.float32)
    camera[:3, :3] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # columns: right, down, forward
    camera[:3, 3] = 0, -2, 0
    full = carve(depth, camera[None, None], 40.0)[0]
    line = ((np.arange(CELLS) + 0.5) / CELLS * 2 - 1) * REACH
    x, y, _ = np.meshgrid(line, line, line, indexing="ij")
    assert (full == ((x < 0) & (y > -0.02))).mean() > 0.99


def test_cells_turn_with_the_direction_that_is_called_azimuth_0() -> None:
    cells = torch.zeros(1, CELLS, CELLS, CELLS, dtype=torch.bool)
    cells[0, 30:40, 20:28, 20:28] = True  # at +x
    cameras = SceneRenderer(3, 1, 16, 1, OnTheFly()).draw(
        "t", "c", creature_scene(np.random.default_rng(0)), creature_scene(np.random.default_rng(0)).clips[0],
        generator_for(1),
    ).cameras  # fmt: skip
    behind = in_frustum(Solid(cells, -90.0), cameras, 16)[0].sum((1, 2))  # seen from −x
    before = in_frustum(Solid(cells, 90.0), cameras, 16)[0].sum((1, 2))
    assert behind.argmax() > 8
    assert before.argmax() < 8


def test_a_scattered_orbit_shows_usual_elevations_first() -> None:
    options = OnTheFly(orbit="scattered", elevation_min=-5, elevation_max=35)
    usual = usual_views(12, options)
    assert usual == 8
    drawn = [scattered_orbit(generator_for(seed), 12, options) for seed in range(50)]
    elevation = torch.stack([one[1][:, 0] for one in drawn])
    assert elevation[:, :usual].min() >= -5
    assert elevation[:, :usual].max() <= 35
    assert elevation[:, usual:].min() < -20
    assert elevation[:, usual:].max() > 60
    azimuth = drawn[0][0][:, 0].sort()[0]
    assert (azimuth.diff() > 360 / 12 * 0.2 - 1e-3).all()
