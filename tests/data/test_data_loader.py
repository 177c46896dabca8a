"""The loader: determinism, exact resume, mixing, damaged samples, on-the-fly and pseudo-4D streams."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from data_samples import coded_sample, save_grids, video_of_dots
from gltf_builder import box_document, write_box, write_glb

from viewtime.configs.schema.data import Augment, DataConfig, OnTheFly
from viewtime.configs.schema.encode import EncodeConfig
from viewtime.data.build import build_loader, build_mixture
from viewtime.data.live.asset_list import held_out_groups, held_out_ids, list_assets, split_assets
from viewtime.data.loader import GridLoader
from viewtime.data.samples import CorruptSampleError, generator_for
from viewtime.data.sources import Consumer, Mixture
from viewtime.data.stored import encode_command
from viewtime.data.stored.shards import find_shards, read_index
from viewtime.errors import UserError


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("loader")
    save_grids(root / "grids", 8)
    encode_command.run(EncodeConfig(str(root / "grids"), str(root / "shards"), samples_per_shard=2, workers=1))
    return str(root / "shards")


def small(**options) -> DataConfig:
    return DataConfig(**{"views": 3, "frames": 2, "resolution": 32, "batch_size": 2, "workers": 0, **options})


def take(loader: GridLoader, count: int) -> list:
    iterator = iter(loader)
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def same(first, second) -> bool:
    return (
        first.ids == second.ids
        and torch.equal(first.x0, second.x0)
        and all(torch.equal(first.cond[name], second.cond[name]) for name in first.cond)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_continues_with_exactly_the_next_batch(shards, workers):
    config = small(shards=shards, workers=workers, max_stride=2, augment=Augment(colour=0.5, background=0.5))
    whole = take(build_loader(config), 7)
    for stop in (3, 4):
        loader = build_loader(config)
        take_state = iter(loader)
        for _ in range(stop):
            next(take_state)
        state = loader.state_dict()
        take_state.close()
        resumed = build_loader(config)
        resumed.load_state_dict(state)
        rest = take(resumed, 7 - stop)
        assert all(same(first, second) for first, second in zip(whole[stop:], rest))
        assert resumed.state_dict() != state


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(shards):
    first, second = (take(build_loader(small(shards=shards)), 3) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, second))
    other = take(build_loader(small(shards=shards, seed=1)), 3)
    assert not any(same(a, b) for a, b in zip(first, other))


def test_ranks_see_different_samples_and_together_all_of_them(shards):
    ids = [
        [id for batch in take(build_loader(small(shards=shards), rank, 2), 2) for id in batch.ids] for rank in (0, 1)
    ]
    assert not set(ids[0]) & set(ids[1])
    assert set(ids[0]) | set(ids[1]) == {f"grid_{number:02d}" for number in range(8)}


def test_a_state_of_another_run_is_refused(shards):
    loader = build_loader(small(shards=shards))
    state = loader.state_dict()
    with pytest.raises(UserError, match="seed was 0 and is now 3"):
        build_loader(small(shards=shards, seed=3)).load_state_dict(state)
    with pytest.raises(UserError, match="world was 1 and is now 2"):
        build_loader(small(shards=shards), 1, 2).load_state_dict(state)
    with pytest.raises(UserError, match="slots was 1 and is now 3"):
        build_loader(small(shards=shards, workers=3)).load_state_dict(state)


def test_corrupt_samples_are_skipped_counted_and_named(tmp_path, caplog):
    save_grids(tmp_path / "grids", 8)
    encode_command.run(EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "s"), samples_per_shard=4, workers=1))
    shard = find_shards(str(tmp_path / "s"))[1]
    entry = read_index(shard).entries[2]
    data = bytearray(shard.read_bytes())
    data[entry.offset + 900] ^= 255
    shard.write_bytes(bytes(data))
    loader = build_loader(small(shards=str(tmp_path / "s"), batch_size=1))
    with caplog.at_level("WARNING", logger="viewtime"):
        seen = [id for batch in take(loader, 14) for id in batch.ids]
    assert "grid_06" not in seen
    assert set(seen) == {f"grid_{number:02d}" for number in range(8)} - {"grid_06"}
    assert loader.skipped["shards"] in (1, 2)  # once an epoch
    assert f"{shard.name}, sample {entry.key}: its checksum is wrong" in caplog.text
    assert loader.state_dict()["positions"]["0"]["skipped"] == loader.skipped["shards"]


class Broken:
    name = "broken"

    def draw(self, consumer, position, rng):
        raise CorruptSampleError(f"sample {position} is bad")


class Good:
    name = "good"

    def __init__(self, name: str = "good") -> None:
        self.name = name

    def draw(self, consumer, position, rng):
        return coded_sample(3, 2, id=f"{self.name}{position}")


def test_too_many_corrupt_samples_stop_the_run():
    loader = GridLoader(Mixture([Good(), Broken()], [0.5, 0.5]), small(max_failed_share=0.2))
    with pytest.raises(UserError, match=r"samples had to be skipped; limit 20%.*is bad"):
        take(loader, 60)
    take(GridLoader(Mixture([Good(), Broken()], [0.95, 0.05]), small(max_failed_share=0.2)), 60)


def test_sources_mix_by_weight_and_each_keeps_its_own_order():
    loader = GridLoader(Mixture([Good("a"), Good("b")], [3.0, 1.0]), small(batch_size=50))
    ids = [id for batch in take(loader, 8) for id in batch.ids]
    share = sum(id.startswith("a") for id in ids) / len(ids)
    assert share == pytest.approx(0.75, abs=0.07)
    assert [id for id in ids if id.startswith("a")][:3] == ["a0", "a1", "a2"]
    assert [id for id in ids if id.startswith("b")][:3] == ["b0", "b1", "b2"]


def test_bad_settings_name_the_value():
    with pytest.raises(UserError, match=r"no data: give data\.options\.shards"):
        build_loader(small())
    with pytest.raises(UserError, match="no shards"):
        build_loader(small(shards="/nowhere"))
    with pytest.raises(UserError, match="rank 2 of 2"):
        GridLoader(Mixture([Good()], [1.0]), small(), 2, 2)
    with pytest.raises(UserError, match="source weights"):
        Mixture([Good()], [-1.0])


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    write_box(folder / "red.glb", colour=(0.9, 0.1, 0.1))
    write_box(folder / "green.glb", colour=(0.1, 0.9, 0.1), turn=0.0)
    write_box(folder / "edec2c2e1fd74742ad0288a93301f4a1.glb")
    document, binary = box_document(folder)
    del document["animations"]
    write_glb(folder / "static.glb", document, binary)
    try:
        from viewtime.render_objaverse.gl import GLRenderer

        GLRenderer(16).close()
    except UserError as error:
        pytest.skip(f"no OpenGL on this machine: {error}")
    return folder


def test_held_out_assets_stay_out_of_training(boxes):
    assets = list_assets(str(boxes))
    assert [asset.id for asset in split_assets(assets, ["red"], held_out_only=False)] == ["green", "static"]
    assert [asset.id for asset in split_assets(assets, ["red"], held_out_only=True)] == ["red"]
    with pytest.raises(UserError, match="rod"):
        split_assets(assets, ["rod"], held_out_only=False)
    with pytest.raises(UserError, match="no asset"):
        split_assets(assets, ["red", "green", "static"], held_out_only=False)


def test_a_list_of_held_out_assets_names_them_by_group(boxes, tmp_path):
    assets = list_assets(str(boxes))
    path = tmp_path / "list.yaml"
    path.write_text("kinds: {box: [red, elsewhere], rod: [static]}\nothers: [red]\n")
    config = DataConfig(assets=str(boxes), held_out=("green",), held_out_list=str(path))
    assert held_out_groups(str(path)) == {"box": ["red", "elsewhere"], "rod": ["static"], "others": ["red"]}
    assert held_out_ids(config, assets) == ["green", "red", "static"]
    path.write_text("kinds: {box: [elsewhere]}\n")
    with pytest.raises(UserError, match="names none of the 3"):
        held_out_ids(config, assets)
    path.write_text("kinds: {box: red}\n")
    with pytest.raises(UserError, match="box must be a list"):
        held_out_groups(str(path))


def test_fields_of_view_are_drawn_from_their_range_and_change_what_is_seen(boxes):
    from viewtime.data.live.stream import AssetSource

    asset, rng = list_assets(str(boxes))[:1], np.random.default_rng
    draws = [
        AssetSource(asset, 2, 1, 32, options=OnTheFly(fov_min=low, fov_max=high)).draw(Consumer(0), 0, rng(4))
        for low, high in ((20, 60), (33.8, 33.8))
    ]
    assert 20 < draws[0].cameras.fov_y < 60
    assert draws[1].cameras.fov_y == 33.8
    assert (draws[0].frames != draws[1].frames).any()
    with pytest.raises(UserError, match="fields of view"):
        AssetSource(asset, 2, 1, 32, options=OnTheFly(fov_min=20, fov_max=120))


def test_the_stream_renders_the_same_grid_for_the_same_position(boxes):
    from viewtime.data.live.stream import AssetSource

    options = OnTheFly(vary_colours=0.5, vary_proportions=0.5, orbit="dynamic")
    grids = []
    for _ in range(2):
        source = AssetSource(list_assets(str(boxes)), 4, 3, 48, 2, options)
        assert [asset.id for asset in source.assets] == ["green", "red", "static"]  # the held-out one is left out
        found, refused = [], []
        for position in range(6):
            try:
                found.append(source.draw(Consumer(0), position, generator_for(7, position)))
            except CorruptSampleError as error:
                refused.append(str(error))
        grids.append(found)
        assert set(refused) <= {"static: it has no clip of at least two frames"}
    assert len(grids[0]) >= 2
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(*grids))
    sample = grids[0][0]
    assert sample.frames.shape == (4, 3, 4, 48, 48)
    assert (sample.cameras.azimuth[0] == 0).all()


def test_what_the_stream_renders_lies_where_its_cameras_say(boxes):
    """The covered pixels reach just as far as the projected corners of the box, in every cell."""
    from viewtime.cameras import Cameras
    from viewtime.data.live.stream import AssetSource

    source = AssetSource(
        list_assets(str(boxes)), 5, 4, 128, 3, OnTheFly(orbit="static", elevation_min=20, elevation_max=20)
    )
    sample = _draw_green(source, generator_for(5))
    azimuth = sample.cameras.azimuth + sample.provenance["azimuth"]
    cameras = Cameras(sample.cameras.elevation, azimuth, sample.cameras.distance, sample.cameras.fov_y)
    # The box of size 1 × .6 × .4 slides by 1 along x in 2 s: 2 long over the clip, so everything is halved.
    for frame, time in enumerate(sample.provenance["times"]):
        centre = torch.tensor([(time / 2 - 0.5) / 2, 0.0, 0.0])
        corners = centre + torch.cartesian_prod(*[torch.tensor([-side, side]) for side in (0.25, 0.1, 0.15)])
        pixels, _ = cameras.project(corners, 128, 128)
        for view in range(5):
            rows, columns = torch.nonzero(sample.frames[view, frame, 3] > 127, as_tuple=True)
            first = torch.tensor([columns.min(), rows.min()])
            last = torch.tensor([columns.max(), rows.max()]) + 1
            assert (first - pixels[view, frame].amin(0)).abs().max() < 1
            assert (last - pixels[view, frame].amax(0)).abs().max() < 1


def _draw_green(source, rng):
    loaded = source._load(next(asset for asset in source.assets if asset.id == "green"))
    return source.renderer.draw(source.name, "green", loaded.scene, loaded.clips[0], rng)


def test_creatures_mix_with_assets_by_weight(boxes):

    mixture = build_mixture(DataConfig(assets=str(boxes), creature_weight=3.0, views=2, frames=1, resolution=16))
    assert [source.name for source in mixture.sources] == ["assets", "creatures"]
    assert mixture.shares.tolist() == [0.25, 0.75]


def test_the_object_is_whole_in_every_cell(boxes):
    from viewtime.data.live.stream import AssetSource

    source = AssetSource(list_assets(str(boxes)), 8, 5, 48, 4)
    sample = _draw_green(source, generator_for(1))
    alpha = sample.frames[:, :, 3]
    border = torch.cat([alpha[..., 0, :], alpha[..., -1, :], alpha[..., 0], alpha[..., -1]], dim=-1)
    assert (border < 64).all()  # a fringe at most: the samples of an edge pixel reach half a pixel beyond it
    assert (alpha > 127).float().mean() > 0.02


@pytest.mark.parametrize("workers", [0, 2])
def test_the_stream_feeds_batches_and_resumes(boxes, workers):
    config = small(assets=str(boxes), workers=workers, prefetch=1, max_failed_share=0.9)
    whole = take(build_loader(config), 4)
    loader = build_loader(config)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    iterator.close()
    resumed = build_loader(config)
    resumed.load_state_dict(state)
    assert same(take(resumed, 1)[0], whole[1])
    assert whole[0].x0.shape == (2, 3, 2, 4, 32, 32)
    assert whole[0].sources == ["assets", "assets"]
    assert not same(whole[0], whole[1])


def test_videos_mix_with_shards_and_bad_videos_are_skipped(tmp_path, shards):
    video_of_dots(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    config = small(shards=shards, videos=str(tmp_path), resolution=32, channels=3, max_failed_share=0.9)
    loader = build_loader(config)
    batches = take(loader, 10)
    sources = [source for batch in batches for source in batch.sources]
    assert set(sources) == {"shards", "videos"}
    assert loader.skipped["videos"] > 0
    assert batches[0].x0.shape == (2, 3, 2, 3, 32, 32)


def test_the_loader_survives_a_change_of_hash_seed(shards):
    """Nothing may depend on Python's hash order: a resumed run is another process."""
    import subprocess
    import sys

    code = (
        "from viewtime.configs.schema.data import DataConfig\nfrom viewtime.data.build import build_loader\n"
        f"c = DataConfig(shards={shards!r}, views=3, frames=2, resolution=32, workers=0)\n"
        "i = iter(build_loader(c))\nprint([(next(i).ids, float(next(i).x0.double().sum())) for _ in range(3)])"
    )
    root = str(Path(__file__).resolve().parents[2])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
