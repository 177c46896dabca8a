"""Grids rendered once: the same by any number of processes, finished where a run ended, refused for other settings."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gltf_builder import write_box

from viewtime.configs.schema.data import DataConfig, Kept, OnTheFly
from viewtime.data.build import build_mixture
from viewtime.data.live.kept import KeptSource
from viewtime.data.samples import generator_for
from viewtime.data.sources import Consumer
from viewtime.errors import UserError


def config_of(folder: Path, assets: Path, **changes) -> DataConfig:
    kept = Kept(str(folder), grids=5, views=6)
    options = OnTheFly(orbit="scattered", solid=True)
    config = DataConfig(assets=str(assets), kept=kept, views=3, frames=2, resolution=16, workers=0, on_the_fly=options)
    return replace(config, **changes)


def source_of(config: DataConfig) -> KeptSource:
    (source,) = build_mixture(config).sources
    assert isinstance(source, KeptSource)
    return source


@pytest.fixture(scope="module")
def one_asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a box that moves."""
    return write_box(tmp_path_factory.mktemp("assets") / "box.glb").parent


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, one_asset: Path) -> tuple[Path, KeptSource]:
    folder = tmp_path_factory.mktemp("kept")
    return folder, source_of(config_of(folder, one_asset))


def test_a_draw_shows_an_input_from_a_usual_elevation_and_other_views(rendered) -> None:
    _, source = rendered
    for position in range(20):
        sample = source.draw(Consumer(0), position, generator_for(position))
        assert tuple(sample.frames.shape) == (3, 2, 4, 16, 16)
        assert float(sample.cameras.azimuth[0, 0]) == 0
        assert -5 <= float(sample.cameras.elevation[0, 0]) <= 30
        assert sample.solid is not None
        assert sample.solid.cells.any()


def test_a_kept_grid_is_the_rendered_one(rendered, one_asset: Path, tmp_path: Path) -> None:
    _, source = rendered
    views = [2, 0, 5]
    again = source.store.get(3, views, "kept")
    plain = replace(config_of(tmp_path, one_asset), kept=Kept(), views=6)
    (live,) = build_mixture(plain).sources
    sample = live.draw(Consumer(0), 3, generator_for(0, 3, 0, 6))
    whole = sample.select(torch.tensor(views), torch.arange(2))
    assert torch.equal(again.frames, whole.frames)
    assert torch.equal(again.solid.cells, whole.solid.cells)
    turned = torch.remainder(torch.tensor(again.solid.azimuth - sample.solid.azimuth), 360)
    assert float(turned) == pytest.approx(float(sample.cameras.azimuth[2, 0]), abs=1e-3)
    torch.testing.assert_close(again.cameras.azimuth, whole.cameras.rezero(0).azimuth, atol=1e-3, rtol=0)
    torch.testing.assert_close(again.cameras.distance, whole.cameras.distance)


def test_what_is_missing_is_rendered_again_the_same_by_more_processes(rendered, one_asset: Path) -> None:
    folder, source = rendered
    frames, numbers = np.array(source.store.frames), np.array(source.store.numbers)
    files = np.load(folder / "numbers.npy", mmap_mode="r+")
    files[1:4] = 0
    np.load(folder / "frames.npy", mmap_mode="r+")[1:4] = 7
    again = source_of(config_of(folder, one_asset, workers=2))
    np.testing.assert_array_equal(again.store.frames, frames)
    np.testing.assert_array_equal(again.store.numbers, numbers)


def test_other_settings_are_refused_in_one_line(rendered, one_asset: Path) -> None:
    folder, _ = rendered
    with pytest.raises(UserError, match="holds grids of other frames; remove it or name another folder"):
        source_of(config_of(folder, one_asset, frames=3))
    with pytest.raises(UserError, match=r"data\.options\.kept\.grids is 0"):
        source_of(config_of(folder, one_asset, kept=Kept(str(folder), grids=0, views=6)))
    with pytest.raises(UserError, match=r"data\.options\.views 7: kept grids have 6"):
        source_of(config_of(folder, one_asset, views=7))


def test_a_copy_for_a_worker_opens_the_files_anew(rendered) -> None:
    _, source = rendered
    sent = pickle.dumps(source)
    assert b"memmap" not in sent
    again = pickle.loads(sent)
    one, other = (each.draw(Consumer(0), 0, generator_for(9)) for each in (source, again))
    assert torch.equal(one.frames, other.frames)


def test_what_would_do_nothing_or_something_else_is_refused(one_asset: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, one_asset)
    with pytest.raises(UserError, match=r"data\.options\.assets names none"):
        build_mixture(replace(config, assets="", creature_weight=1.0))
    for changes, said in (({"azimuth": "random"}, "orbit scattered"), ({"azimuth": "arc", "room": 1.0}, "carved too")):
        with pytest.raises(UserError, match=said):
            build_mixture(replace(config, on_the_fly=replace(config.on_the_fly, **changes)))


def test_half_a_file_is_refused_in_one_line(rendered, one_asset: Path, tmp_path: Path) -> None:
    folder, _ = rendered
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    with (broken / "frames.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=r"frames\.npy is damaged .*; remove"):
        source_of(config_of(broken, one_asset))
