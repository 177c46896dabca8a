"""Sizes that make no loader are refused before anything is read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from viewtime.configs.schema.data import DataConfig
from viewtime.data.loader import GridLoader
from viewtime.data.sources import Mixture
from viewtime.errors import UserError


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ({"workers": -1}, (0, 1), r"data\.options\.workers -1"),
        ({"workers": 1, "prefetch": 0}, (0, 1), r"data\.options\.prefetch 0"),
        ({"views": 0}, (0, 1), r"data\.options\.views is 0; must be at least 1"),
        ({"frames": 0}, (0, 1), r"data\.options\.frames is 0"),
        ({"max_stride": 0}, (0, 1), r"data\.options\.max_stride is 0"),
        ({"batch_size": 0}, (0, 1), r"data\.options\.batch_size is 0"),
        ({}, (2, 2), "rank 2 of 2 processes; must lie in 0 … 1"),
        ({}, (-1, 2), "rank -1 of 2 processes"),
    ],
)
def test_sizes_that_make_no_loader_are_refused(options: dict, place: tuple[int, int], words: str) -> None:
    mixture = Mixture([SimpleNamespace(name="none")], [1.0])  # type: ignore[list-item]
    least = DataConfig(workers=0, prefetch=0, views=1, frames=1, batch_size=1)
    assert GridLoader(mixture, least, 1, 2).slots == 1
    assert GridLoader(mixture, DataConfig(workers=1, prefetch=1)).slots == 1
    with pytest.raises(UserError, match=words):
        GridLoader(mixture, DataConfig(**options), *place)
