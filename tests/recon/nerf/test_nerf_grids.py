"""Grids per frame: interpolation in time, and the two kinds of smoothness, against numbers by hand."""

import pytest
import torch

from viewtime.recon.nerf.deformation import GridDeformation
from viewtime.recon.nerf.frame_grids import FrameGrids
from viewtime.recon.nerf.levels import Levels


def grids():
    made = FrameGrids(3, Levels.of([3], 27), 2)
    with torch.no_grad():
        for frame, table in enumerate(made.tables):
            table.fill_(float(frame**2))
    return made


def test_instants_between_frames_are_linear_and_clamped():
    tables = grids().at(torch.tensor([0.0, 0.25, 1.5, 7.0]))
    assert tables[:, 5, 1].tolist() == [0.0, 0.25, 2.5, 4.0]


def test_a_step_moves_only_the_frames_it_looks_at():
    made = grids()
    made.at(torch.tensor([1.0])).sum().backward()
    assert [table.grad is None for table in made.tables] == [True, False, True]


def test_roughness_and_acceleration():
    made = grids()
    frames = [0, 1, 2]
    tables = made.at(torch.tensor([0.0, 1.0, 2.0])).detach()
    assert float(made.roughness(tables)) == 0
    # frame 1 lies 1 below the mean of 0 and 4; the ends are compared with their one neighbour: 1 and 3 away
    assert float(made.acceleration(frames, tables)) == pytest.approx((1 + 1 + 9) / 3)
    ramp = torch.arange(3.0)[None, None, :].expand(3, 3, 3).reshape(1, 27, 1)
    assert float(FrameGrids(1, Levels.of([3], 27), 1).roughness(ramp)) == pytest.approx(1.0)
    assert float(FrameGrids(1, Levels.of([3], 27), 1).acceleration([0], ramp)) == 0


def test_grid_deformation_starts_as_the_identity_and_adds_its_levels():
    deformation = GridDeformation(2, (3, 5), 1.0, 0.1)
    points, slot = torch.rand(7, 3), torch.zeros(7, dtype=torch.long)
    assert float(deformation.at(torch.tensor([1.0]))(points, slot).detach().abs().max()) == 0
    with torch.no_grad():
        deformation.grids.tables[1][:27] = torch.tensor([0.1, 0.0, 0.2])
        deformation.grids.tables[1][27:] = torch.tensor([0.0, 0.3, 0.2])
    moved = deformation.at(torch.tensor([1.0]))(points, slot)
    torch.testing.assert_close(moved, torch.tensor([0.1, 0.3, 0.4]).expand(7, 3))
    stiff = []
    for share in (0.0, 0.25, 1.0):
        deformation.anneal(share)
        stiff.append(deformation.stiffness)
    assert stiff == [10.0, 5.5, 1.0]


def test_a_frame_that_enters_starts_from_its_neighbour():
    deformation = GridDeformation(3, (3,), 1.0, 0.1)
    with torch.no_grad():
        deformation.grids.tables[1].fill_(0.7)
    deformation.enter(2, 1)
    assert float(deformation.grids.tables[2].detach().min()) == pytest.approx(0.7)
