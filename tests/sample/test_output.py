"""Which cells the diagonal video and the contact sheet show."""

from types import SimpleNamespace

import pytest
import torch

from viewtime.cameras import regular_orbit
from viewtime.sample.output import _diagonal, _sheet


def job(views: int, frames: int) -> SimpleNamespace:
    problem = SimpleNamespace(views=views, frames=frames)
    plan = SimpleNamespace(problem=problem)
    return SimpleNamespace(plan=plan, cameras=regular_orbit(views, frames), cameras_known=True)


@pytest.mark.parametrize(
    ("views", "frames", "cells"),
    [
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
        (2, 5, [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4)]),  # once around while the clip plays once
        (4, 2, [(0, 0), (1, 0), (2, 1), (3, 1)]),
        (1, 2, [(0, 0), (0, 1)]),
    ],
)
def test_the_diagonal_goes_once_around_while_the_clip_plays_once(views, frames, cells):
    assert _diagonal(job(views, frames), lambda wanted: wanted) == cells


def test_the_sheet_shows_every_view_at_even_instants(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        "viewtime.sample.output.contact_sheet", lambda cells, path, **labels: shown.update(labels, cells=cells)
    )

    def read(cells):
        return torch.tensor([100.0 * view + frame for view, frame in cells])

    _sheet(job(2, 34), read, tmp_path)
    columns = [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33]
    assert shown["cells"].tolist() == [columns, [100 + column for column in columns]]
    assert shown["row_labels"] == ["input", "180 deg"]
    assert shown["column_labels"] == [f"t = {column}" for column in columns]
    unknown = job(3, 2)
    unknown.cameras_known = False
    _sheet(unknown, read, tmp_path)
    assert shown["row_labels"] == ["input", "view 1", "view 2"]
