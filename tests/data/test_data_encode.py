"""`viewtime encode`: what is in a shard, failures, and the same bytes after kill -9."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_samples import coded_frames, save_grids, shard_digests

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.data import DataConfig, KnownCells
from viewtime.configs.schema.encode import EncodeConfig
from viewtime.data.build import build_loader
from viewtime.data.stored import encode_command, schema, spread
from viewtime.data.stored.shard_source import read_record
from viewtime.data.stored.shards import find_shards, read_index, read_sample
from viewtime.errors import UserError
from viewtime.grid import FrameGrid

ROOT = Path(__file__).resolve().parents[2]


def test_a_half_written_shard_is_made_again_and_left_overs_go(tmp_path):
    save_grids(tmp_path / "grids", 4)
    config = EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "a"), samples_per_shard=2, workers=1)
    encode_command.run(config)
    expected = shard_digests(tmp_path / "a")
    shard = tmp_path / "a" / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    (tmp_path / "a" / ".shard-000000.99.partial.tar").write_bytes(b"x")
    encode_command.run(config)
    assert shard_digests(tmp_path / "a") == expected
    assert not list((tmp_path / "a").glob(".*partial*"))


def test_processes_do_not_change_the_bytes(tmp_path):
    save_grids(tmp_path / "grids", 5)
    for workers in (1, 3):
        output = str(tmp_path / str(workers))
        encode_command.run(EncodeConfig(str(tmp_path / "grids"), output, samples_per_shard=2, workers=workers))
    assert shard_digests(tmp_path / "1") == shard_digests(tmp_path / "3")


def test_another_plan_in_the_same_folder_is_refused(tmp_path):
    save_grids(tmp_path / "grids", 2)
    encode_command.run(EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "a"), workers=1))
    with pytest.raises(UserError, match="begun with other quality"):
        encode_command.run(EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "a"), workers=1, quality=20))


def test_a_bad_grid_is_recorded_and_the_others_are_encoded(tmp_path):
    save_grids(tmp_path / "grids", 4)
    (tmp_path / "grids" / "grid_01" / "view_002" / "frame_003.png").unlink()
    grid = FrameGrid.load(tmp_path / "grids" / "grid_02")
    grid.provenance["asset"] = "edec2c2e1fd74742ad0288a93301f4a1"
    grid.save(tmp_path / "grids" / "grid_02", lossless=True)
    config = EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "a"), workers=1, max_failed_share=0.5)
    paths = encode_command.run(config)
    index = read_index(find_shards(str(tmp_path / "a"))[0])
    assert [entry.key for entry in index.entries] == ["000000_grid_00", "000003_grid_03"]
    failed = [json.loads(line) for line in (tmp_path / "a" / "failed.jsonl").read_text().splitlines()]
    assert [row["id"] for row in failed] == ["grid_01", "grid_02"]
    assert "published test set objaversedy_test" in failed[1]["reason"]
    assert tmp_path / "a" / "failed.jsonl" in paths
    strict = EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "a"), workers=1, max_failed_share=0.4)
    with pytest.raises(UserError, match="2 of 4 grids could not be encoded"):
        encode_command.run(strict)


def test_smaller_resolution_and_the_record(tmp_path):
    save_grids(tmp_path / "grids", 1)
    encode_command.run(EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "a"), workers=1, resolution=16))
    shard = find_shards(str(tmp_path / "a"))[0]
    record = read_record(read_sample(shard, read_index(shard).entries[0]))
    assert (record.views, record.frames, record.height, record.width) == (6, 5, 16, 16)
    assert record.frame_times == pytest.approx([0, 1 / 12, 2 / 12, 3 / 12, 4 / 12])
    assert record.provenance == {"asset": "a0"}


@pytest.mark.parametrize(("told", "kept"), [([0.0, 0.5, 2.0], [0.0, 0.5, 2.0]), ([0.0, 0.5], [0.0, 0.25, 0.5])])
def test_a_grids_own_times_are_kept_where_there_is_one_a_frame(tmp_path, told, kept, monkeypatch):
    said = []
    monkeypatch.setattr(encode_command.log, "info", lambda text, *values: said.append(text % values))
    pixels = coded_frames(2, 3, 16).float() / 255
    known = torch.zeros(2, 3, dtype=torch.bool)
    FrameGrid(pixels, known, regular_orbit(2, 3), 4.0, {"times": told}).save(tmp_path / "grids/a", lossless=True)
    encode_command.run(EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "e"), workers=1))
    shard = find_shards(str(tmp_path / "e"))[0]
    assert read_record(read_sample(shard, read_index(shard).entries[0])).frame_times == pytest.approx(kept)
    assert f" {shard.stat().st_size / 1000:.0f} kB a sample" in said[-1]


def test_nothing_to_encode_and_missing_weights_say_so(tmp_path):
    tmp_path.joinpath("empty").mkdir()
    with pytest.raises(UserError, match=r"no grid \(grid.json\) below"):
        encode_command.run(EncodeConfig(str(tmp_path / "empty"), str(tmp_path / "a")))
    with pytest.raises(UserError, match=r"no such folder: .*nope"):
        encode_command.run(EncodeConfig(str(tmp_path / "nope"), str(tmp_path / "a")))
    with pytest.raises(UserError, match="latents need --weights"):
        encode_command.run(EncodeConfig(str(tmp_path / "empty"), str(tmp_path / "a"), kind="latents"))


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory):
    """A small twin of SV4D with random weights, in this package's own format."""
    pytest.importorskip("open_clip")
    from viewtime.model.published.identify import file_config
    from viewtime.model.published.presets import load_model_config
    from viewtime.model.video_model import VideoModel
    from viewtime.weights import save_weights

    torch.manual_seed(0)
    config = load_model_config("sv4d-debug")
    model = VideoModel(config)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return save_weights(path, model.state_dict(), file_config(config))


def test_latents_and_embeddings_are_those_of_the_model_whatever_the_chunk(tmp_path, tiny_weights):
    from viewtime.model.video_model import load_video_model

    save_grids(tmp_path / "grids", 2, views=3, frames=2, size=32)
    for chunk in (1, 5):
        encode_command.run(
            EncodeConfig(
                str(tmp_path / "grids"), str(tmp_path / str(chunk)), "latents", weights=str(tiny_weights), chunk=chunk
            )
        )
    shard = find_shards(str(tmp_path / "5"))[0]
    members = read_sample(shard, read_index(shard).entries[1])
    assert set(members) == {schema.META, schema.LATENTS, schema.CLIP}
    stored = _array(members, schema.LATENTS)
    other_shard = find_shards(str(tmp_path / "1"))[0]
    other = _array(read_sample(other_shard, read_index(other_shard).entries[1]), schema.LATENTS)
    np.testing.assert_allclose(stored.astype(np.float32), other.astype(np.float32), atol=2e-3)

    model = load_video_model(tiny_weights, parts=("frame_encoder", "image_encoder"))
    image = FrameGrid.load(tmp_path / "grids" / "grid_01").rgb()[1, 1:2] * 2 - 1
    with torch.no_grad():
        expected = model.frame_encoder(image) * model.config.vae.scale
        embedding = model.image_encoder(image)
    np.testing.assert_allclose(stored[1, 1].astype(np.float32), expected[0].numpy(), atol=2e-3)
    np.testing.assert_allclose(_array(members, schema.CLIP)[1, 1].astype(np.float32), embedding[0].numpy(), atol=2e-3)


@pytest.mark.slow
def test_latents_are_the_same_by_several_processes_after_a_kill_between(tmp_path, tiny_weights):
    """One process makes three shards; two make the others of a run that had made one.

    To rounding: the CPU's convolutions differ between processes in the last places.
    """
    save_grids(tmp_path / "grids", 3, views=2, frames=2, size=32)
    config = EncodeConfig(
        str(tmp_path / "grids"), str(tmp_path / "one"), "latents", weights=str(tiny_weights), samples_per_shard=1
    )
    encode_command.run(config)
    config = replace(config, out=str(tmp_path / "two"), workers=2)
    plan = encode_command.make_plan(config)
    (tmp_path / "two").mkdir()
    list(spread.encode_all(config, plan, [1]))
    assert [path.name for path in find_shards(config.out)] == ["shard-000001.tar"]
    encode_command.run(config)
    for first, second in zip(find_shards(str(tmp_path / "one")), find_shards(config.out), strict=True):
        (alone,), (spread_out,) = read_index(first).entries, read_index(second).entries
        assert alone.key == spread_out.key
        one, two = read_sample(first, alone), read_sample(second, spread_out)
        assert one[schema.META] == two[schema.META]
        for name in (schema.LATENTS, schema.CLIP):
            np.testing.assert_allclose(_array(one, name).astype(np.float32), _array(two, name), atol=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_nodes_of_a_ray_cluster_make_the_same_bytes(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    save_grids(tmp_path / "grids", 5)
    for name, options in (("one", {"workers": 1}), ("ray", {"ray": "local"})):
        encode_command.run(EncodeConfig("grids", name, samples_per_shard=1, **options))
    assert shard_digests(tmp_path / "one") == shard_digests(tmp_path / "ray")


@pytest.mark.parametrize(("device", "cards", "places"), [
    (None, 3, ["cuda:0", "cuda:1", "cuda:2"]), ("cuda:1", 3, ["cuda:1"]), ("cpu", 3, ["cpu"]), (None, 0, ["cpu"]),
])  # fmt: skip
def test_latents_are_spread_over_the_gpus(monkeypatch, device, cards: int, places: list[str]):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert spread._devices(EncodeConfig("grids", kind="latents", weights="w", device=device)) == places


def test_latent_shards_feed_the_loader_without_augmentation_of_pixels(tmp_path, tiny_weights):
    save_grids(tmp_path / "grids", 2, views=3, frames=4, size=32)
    encode_command.run(EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "a"), "latents", weights=str(tiny_weights)))
    config = DataConfig(
        shards=str(tmp_path / "a"),
        kind="latents",
        views=2,
        frames=3,
        workers=0,
        known=KnownCells(view_and_frame=1, view=0),
    )
    batch = next(iter(build_loader(config)))
    assert batch.x0.shape[:3] == (1, 2, 3)
    assert batch.cond["clip"].shape[:3] == (1, 2, 3)
    assert batch.cond["known"][0].tolist() == [[True, True, True], [True, False, False]]
    with pytest.raises(UserError, match=r"it holds no frames\.mp4; was it encoded as another kind"):
        next(iter(build_loader(DataConfig(shards=str(tmp_path / "a"), views=2, frames=3, workers=0))))


def _array(members: dict[str, bytes], name: str) -> np.ndarray:
    import io

    return np.load(io.BytesIO(members[name]), allow_pickle=False)


def test_one_bad_grid_is_recorded_and_the_others_are_encoded(tmp_path):
    """Whatever is wrong with it: a record of other types, and what no check foresees."""
    save_grids(tmp_path / "grids", 6)
    path = tmp_path / "grids" / "grid_01" / "grid.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "known": 3}))
    path = tmp_path / "grids" / "grid_04" / "grid.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "F": 2**31}))
    config = EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "out"), workers=1, max_failed_share=0.5)
    encode_command.run(config)
    record = json.loads((tmp_path / "out" / "dataset.json").read_text())
    failed = [json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").read_text().splitlines()]
    assert record["samples"] == 4
    assert [item["id"] for item in failed] == ["grid_01", "grid_04"]
    assert "at 'known'" in failed[0]["reason"]
    assert "at 'F'" in failed[1]["reason"]


def test_an_exception_of_any_kind_is_one_grids(tmp_path, monkeypatch):
    save_grids(tmp_path / "grids", 3)
    real = spread.encode_grid

    def failing(folder, id, **options):
        if id == "grid_01":
            raise TypeError("what nobody foresaw")
        return real(folder, id, **options)

    monkeypatch.setattr(spread, "encode_grid", failing)
    config = EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "out"), workers=1, max_failed_share=0.5)
    encode_command.run(config)
    assert "TypeError: what nobody foresaw" in (tmp_path / "out" / "failed.jsonl").read_text()

    def full(folder, id, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spread, "encode_grid", full)
    with pytest.raises(OSError, match="No space left"):  # the machine's fault is no grid's
        encode_command.run(EncodeConfig(str(tmp_path / "grids"), str(tmp_path / "other"), workers=1))


def test_other_grids_under_the_same_names_are_not_mixed_in(tmp_path):
    save_grids(tmp_path / "a", 3)
    save_grids(tmp_path / "b", 3, frames=4)
    encode_command.run(EncodeConfig(str(tmp_path / "a"), str(tmp_path / "out"), workers=1))
    with pytest.raises(UserError, match="was begun with other grids"):
        encode_command.run(EncodeConfig(str(tmp_path / "b"), str(tmp_path / "out"), workers=1))
