"""Compressed pixels, shard files and what the reader does with damaged ones."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from data_samples import coded_frames, moving_cameras, save_grids

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.encode import EncodeConfig
from viewtime.data.pixels import decode_frames, encode_frames, resize_frames
from viewtime.data.samples import CorruptSampleError, generator_for
from viewtime.data.sources import Consumer
from viewtime.data.stored import encode_command, schema
from viewtime.data.stored.encode import encode_grid
from viewtime.data.stored.shard_source import ShardSource, read_grid, read_record
from viewtime.data.stored.shards import find_shards, index_path, is_whole, read_index, read_sample, write_shard
from viewtime.errors import UserError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    save_grids(root / "grids", 7)
    config = EncodeConfig(
        source=str(root / "grids"), out=str(root / "shards"), samples_per_shard=3, workers=1, quality=8
    )
    encode_command.run(config)
    return root / "shards"


def test_decoded_cells_are_the_asked_ones_in_the_asked_order():
    frames = coded_frames(5, 6)
    payload = encode_frames(frames, quality=12)
    views, times = [3, 0, 4], [5, 1, 2]
    decoded = decode_frames(payload, 6, True, views, times)
    assert decoded.shape == (3, 3, 4, 32, 32)
    expected = frames[views][:, times]
    assert torch.equal(decoded[:, :, 3], expected[:, :, 3])
    difference = decoded[:, :, :3, 12:20, 12:20].float() - expected[:, :, :3, 12:20, 12:20].float()
    assert difference.abs().max() < 5.5  # neighbouring views and frames are 11 apart


def test_the_same_frames_give_the_same_bytes():
    assert encode_frames(coded_frames(3, 4)) == encode_frames(coded_frames(3, 4))


def test_frames_without_alpha_round_trip():
    frames = coded_frames(2, 3)[:, :, :3]
    decoded = decode_frames(encode_frames(frames, quality=10), 3, False, [1], [2])
    assert decoded.shape == (1, 1, 3, 32, 32)
    assert (decoded[0, 0].float() - frames[1, 2].float()).abs().mean() < 4


def test_a_cut_or_foreign_stream_is_a_corrupt_sample():
    payload = encode_frames(coded_frames(3, 4))
    for bad in (payload[: len(payload) // 3], b"", b"no video at all" * 20):
        with pytest.raises(CorruptSampleError):
            decode_frames(bad, 4, True, [2], [3])
    with pytest.raises(UserError, match="even width and height"):
        encode_frames(coded_frames(1, 1, size=31))
    for height, width in ((31, 32), (32, 31)):
        with pytest.raises(UserError, match="even width and height"):
            encode_frames(coded_frames(1, 1)[..., :height, :width])
    assert encode_frames(coded_frames(1, 1, size=18))


def test_resizing_weights_colour_by_alpha():
    frames = torch.zeros(1, 1, 4, 16, 16, dtype=torch.uint8)
    frames[0, 0, 0] = 255  # red everywhere, but only the left half is there
    frames[0, 0, 1, :, 8:] = 255  # what is not there is yellow
    frames[0, 0, 3, :, :8] = 255
    small = resize_frames(frames, 8)
    present = small[0, 0, 3] > 0
    assert (small[0, 0, 1][present] == 0).all()
    assert (small[0, 0, 0][present] == 255).all()
    assert resize_frames(frames, 16) is frames


def test_shards_open_with_webdataset(dataset):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in find_shards(str(dataset))]
    samples = list(webdataset.DataPipeline(webdataset.SimpleShardList(urls), webdataset.tarfile_to_samples()))
    assert len(samples) == 7
    assert all({schema.META, schema.PIXELS} <= set(sample) for sample in samples)
    assert len({sample["__key__"] for sample in samples}) == 7


def test_a_stored_sample_reads_back(dataset):
    shard = find_shards(str(dataset))[1]
    members = read_sample(shard, read_index(shard).entries[0])
    record = read_record(members)
    assert (record.id, record.views, record.frames, record.has_alpha) == ("grid_03", 6, 5, True)
    sample = read_grid(members, "pixels", 4, 3, 1, generator_for(0))
    assert sample.frames.shape == (4, 3, 4, 32, 32)
    blue = sample.frames[:, :, 2, 16, 16].float()
    assert (blue - 24).abs().max() < 8
    view = ((sample.frames[:, 0, 0, 16, 16].float() - 10) / 11).round()
    expected = torch.remainder((view - view[0]) * 60, 360)
    torch.testing.assert_close(sample.cameras.azimuth[:, 0], expected, atol=1e-3, rtol=0)


def test_cameras_are_packed_only_when_they_stand_still(dataset):
    still, moving = regular_orbit(6, 5), moving_cameras(6, 5)
    assert len(schema.pack_cameras(still)["azimuth"][0]) == 1
    assert len(schema.pack_cameras(moving)["azimuth"][0]) == 5
    shard = find_shards(str(dataset))[0]
    record = read_record(read_sample(shard, read_index(shard).entries[0]))
    assert torch.equal(schema.unpack_cameras(record).azimuth, still.azimuth)


def test_same_samples_same_tar_bytes(tmp_path):
    samples = [("a", {"x.txt": b"1" * 700}), ("b", {"y.txt": b"", "x.txt": b"2"})]
    first = write_shard(tmp_path / "one.tar", samples)
    second = write_shard(tmp_path / "two.tar", samples)
    assert first.sha256 == second.sha256
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert is_whole(tmp_path / "one.tar", check_bytes=True)
    with pytest.raises(UserError, match="repeated"):
        write_shard(tmp_path / "three.tar", [("a", {}), ("a", {})])
    assert not (tmp_path / "three.tar").exists()


def test_damage_is_found_and_named(tmp_path):
    samples = [(f"s{i}", {"x.bin": bytes([i]) * 2000}) for i in range(4)]
    shard = tmp_path / "shard.tar"
    write_shard(shard, samples)
    entries = read_index(shard).entries
    data = bytearray(shard.read_bytes())
    data[entries[1].offset + 600] ^= 1
    shard.write_bytes(bytes(data[: entries[3].offset + 700]))
    assert not is_whole(shard)
    assert read_sample(shard, entries[0])["x.bin"] == samples[0][1]["x.bin"]
    with pytest.raises(CorruptSampleError, match=r"shard\.tar, sample s1: its checksum is wrong"):
        read_sample(shard, entries[1])
    assert read_sample(shard, entries[2])["x.bin"] == samples[2][1]["x.bin"]
    with pytest.raises(CorruptSampleError, match=r"shard\.tar, sample s3: cut off"):
        read_sample(shard, entries[3])


def test_a_shard_without_index_is_walked_up_to_its_damage(tmp_path):
    samples = [(f"s{i}", {"a.bin": bytes([i]) * 900, "b.bin": b"b"}) for i in range(4)]
    shard = tmp_path / "shard.tar"
    entries = write_shard(shard, samples).entries
    index_path(shard).unlink()
    walked = read_index(shard).entries
    assert [(e.key, e.offset, e.size) for e in walked] == [(e.key, e.offset, e.size) for e in entries]
    shard.write_bytes(shard.read_bytes()[: entries[2].offset + 100])
    assert [entry.key for entry in read_index(shard).entries][:2] == ["s0", "s1"]
    assert read_sample(shard, read_index(shard).entries[1])["b.bin"] == b"b"


def test_a_newer_format_is_refused_by_name():
    record = dict.fromkeys(schema.SampleRecord.__dataclass_fields__, 1) | {"version": schema.FORMAT_VERSION + 1}
    with pytest.raises(CorruptSampleError, match="format version 2"):
        read_record({schema.META: json.dumps(record).encode()})
    with pytest.raises(CorruptSampleError, match="missing required field 'id'"):
        read_record({schema.META: b'{"version": 1}'})


def test_arrays_that_break_their_promise_are_refused():
    record = schema.SampleRecord(1, "s", "t", 2, 3, 8, 8, False, 1.0, {}, [], {schema.LATENTS: [2, 3, 4, 1, 1]}, {})
    good = np.zeros((2, 3, 4, 1, 1), np.float16)
    assert schema.check_array(schema.LATENTS, good, record) is good
    for bad in (good.astype(np.float32), good[:1], np.full_like(good, np.nan)):
        with pytest.raises(UserError):
            schema.check_array(schema.LATENTS, bad, record)


def epoch(source: ShardSource, consumers: list, per_consumer: list[int]) -> list[str]:
    return [
        source.locate(consumer, position)[1].key
        for consumer, count in zip(consumers, per_consumer)
        for position in range(count)
    ]


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (1, 3), (3, 1), (2, 4)])
def test_consumers_share_an_epoch_without_overlap(dataset, world, workers):
    from viewtime.data.sources import Consumer

    source = ShardSource(str(dataset), 2, 2)
    consumers = [Consumer(5, rank, world, worker, workers) for rank in range(world) for worker in range(workers)]
    lengths = [len(source._order(5, 0, consumer.index, consumer.count)) for consumer in consumers]
    keys = epoch(source, consumers, lengths)
    if world * workers <= 7:
        assert sorted(keys) == sorted(entry.key for entries in source.entries for entry in entries)
    else:
        assert set(keys) == {entry.key for entries in source.entries for entry in entries}
    assert all(lengths)


def test_epochs_differ_and_a_position_means_the_same_in_a_fresh_source(dataset):
    from viewtime.data.sources import Consumer

    consumer = Consumer(5)
    source = ShardSource(str(dataset), 2, 2)
    keys = [source.locate(consumer, position)[1].key for position in range(21)]
    assert keys[:7] != keys[7:14]
    assert sorted(keys[:7]) == sorted(keys[7:14]) == sorted(keys[14:])
    assert ShardSource(str(dataset), 2, 2).locate(consumer, 19)[1].key == keys[19]


def test_tar_members_have_no_time_or_owner(dataset):
    with tarfile.open(find_shards(str(dataset))[0]) as archive:
        members = archive.getmembers()
    assert {(m.mtime, m.uid, m.uname) for m in members} == {(0, 0, "")}
    assert np.load(io.BytesIO(_npy_bytes()), allow_pickle=False).dtype == np.float16


def _npy_bytes() -> bytes:
    from viewtime.data.stored.encode import _npy

    return _npy(np.zeros(3, np.float16))


@pytest.mark.parametrize("folder", ["", "train/", "v1.2/train.set/"])
def test_members_packed_with_a_folder_are_split_as_webdataset_does(tmp_path, folder):
    """`tar --sort=name -cf x.tar .`: at the first dot behind the last slash; folders are no members."""
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as archive:
        for name in ("./", f"./{folder}"):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for key in ("000_fox", "001_cat"):
            for extension in ("frames.mp4", "meta.json"):
                entry = tarfile.TarInfo(f"./{folder}{key}.{extension}")
                entry.size = 3
                archive.addfile(entry, io.BytesIO(key[:3].encode()))
    entries = read_index(shard).entries
    assert [entry.key for entry in entries] == [f"{folder}000_fox", f"{folder}001_cat"]
    assert read_sample(shard, entries[1]) == {"frames.mp4": b"001", "meta.json": b"001"}


@pytest.mark.parametrize(
    "damage",
    [
        {"cameras": {"azimuth": "x"}},
        {"views": "6"},
        {"frames": 2**40},
        {"fps": 0},
        {"frame_times": None},
        {"provenance": []},
        {"has_alpha": 3},
        None,
    ],
)
def test_one_bad_record_is_that_samples_fault_alone(tmp_path, damage):
    """Whatever meta.json holds, drawing raises the error that the loader counts and goes on from."""
    save_grids(tmp_path / "grids", 1)
    members = encode_grid(tmp_path / "grids" / "grid_00", "g", resolution=None, quality=28, latents=None)
    record = json.loads(members["meta.json"])
    if damage is None:
        members["meta.json"] = b"[" * 100_000
    else:
        if "cameras" in damage:
            damage = {"cameras": record["cameras"] | damage["cameras"]}
        members["meta.json"] = json.dumps(record | damage).encode()
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards" / "shard-000000.tar", [("a", members)])
    with pytest.raises(CorruptSampleError, match=r"shard-000000\.tar, sample a"):
        ShardSource(str(tmp_path / "shards"), 2, 2).draw(Consumer(0), 0, generator_for(0))
