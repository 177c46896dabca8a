"""Buckets: which one a stored grid belongs to, batches of one shape, the same after a resume and in all processes."""

from __future__ import annotations

import io
import json
import logging
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from data_samples import coded_frames

from viewtime.cameras import regular_orbit
from viewtime.configs.schema.data import Augment, DataConfig
from viewtime.data.build import build_loader
from viewtime.data.loader import GridLoader
from viewtime.data.stored import schema
from viewtime.data.stored.buckets import Bucket, bucket_of
from viewtime.data.stored.encode import encode_frames
from viewtime.data.stored.shards import index_path, write_shard
from viewtime.errors import UserError

SHORT, LONG, WIDE = Bucket(2, 32, 32), Bucket(5, 32, 32), Bucket(3, 24, 48)
BUCKETS = tuple((bucket.frames, bucket.height, bucket.width) for bucket in (SHORT, LONG, WIDE))
# Kind of a sample -> frames, height and width as stored; and its bucket.
STORED = {"short": (3, 40, 40), "long": (7, 32, 32), "wide": (4, 32, 64), "single": (1, 32, 32)}
HOME = {"short": SHORT, "long": LONG, "wide": WIDE}


@pytest.mark.parametrize(
    ("stored", "buckets", "exact", "expected"),
    [
        ((4, 6, 64, 64), (SHORT, LONG, WIDE), False, LONG),
        ((4, 4, 64, 64), (SHORT, LONG, WIDE), False, SHORT),  # five frames are not there
        ((4, 9, 64, 128), (SHORT, LONG, WIDE), False, WIDE),
        ((4, 9, 64, 64), (LONG, Bucket(5, 64, 64), Bucket(2, 128, 128)), False, Bucket(5, 64, 64)),
        ((4, 9, 16, 16), (SHORT, LONG), False, LONG),  # enlarged as little as can be
        ((4, 9, 64, 64), (LONG, WIDE), True, None),  # latents keep their size
        ((4, 9, 24, 48), (LONG, WIDE), True, WIDE),
        ((4, 1, 64, 64), (SHORT, LONG), False, None),
        ((2, 9, 64, 64), (SHORT, LONG), False, None),  # three views are drawn
    ],
)
def test_a_grid_belongs_to_the_nearest_bucket_that_it_fills(stored, buckets, exact, expected) -> None:
    assert bucket_of(stored, buckets, 3, exact) == expected
    assert bucket_of(stored, buckets[::-1], 3, exact) == expected


def sample(kind: str, number: int, latents: bool) -> tuple[str, dict[str, bytes]]:
    F, H, W = STORED[kind]
    square = coded_frames(4, F, min(H, W), shade=8 * number)
    pixels = torch.zeros(4, F, 4, H, W, dtype=torch.uint8)
    left = (W - H) // 2
    pixels[..., left : left + H] = square
    arrays = {schema.LATENTS: [4, F, 4, H // 8, W // 8]} if latents else {}
    record = schema.SampleRecord(
        schema.FORMAT_VERSION, f"{kind}/{number}", "test", 4, F, H, W, True, 8.0,
        schema.pack_cameras(regular_orbit(4, F)), [i / 8 for i in range(F)], arrays, {},
    )  # fmt: skip
    members = {schema.META: json.dumps(record.to_json()).encode()}
    if latents:
        file = io.BytesIO()
        np.save(file, np.full(arrays[schema.LATENTS], number, np.float16))
        members[schema.LATENTS] = file.getvalue()
    else:
        members[schema.PIXELS] = encode_frames(pixels)
    return f"{kind}-{number}", members


def mixed_shards(folder: Path, kind: str) -> DataConfig:
    """Two shards of short, long and wide samples, and one sample that is in no bucket."""
    latents = kind == "latents"
    buckets = tuple((b.frames, *STORED[kind][1:]) for kind, b in HOME.items()) if latents else BUCKETS
    for shard in range(2):
        samples = [
            sample(kind, 4 * shard + n, latents)
            for kind, count in (("short", 4), ("long", 2), ("wide", 1))
            for n in range(count)
        ]
        samples += [sample("single", 0, latents)] if shard else []
        write_shard(folder / f"shard-{shard:06d}.tar", samples)
    return DataConfig(
        shards=str(folder), kind=kind, views=3, batch_size=2, workers=0, buckets=buckets, augment=Augment(0, 0)
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> DataConfig:
    return mixed_shards(tmp_path_factory.mktemp("films"), "pixels")


@pytest.fixture(scope="module")
def latents(tmp_path_factory) -> DataConfig:
    return mixed_shards(tmp_path_factory.mktemp("latents"), "latents")


def take(loader: GridLoader, count: int) -> list:
    iterator = iter(loader)
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def kind_of(batch) -> str:
    (kind,) = {id.partition("/")[0] for id in batch.ids}
    return kind


def test_every_batch_has_one_shape_and_buckets_come_as_often_as_they_have_samples(latents, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="viewtime"):
        batches = take(build_loader(latents), 140)
    assert "1 samples are in no bucket" in caplog.text
    shapes = dict(zip(HOME, latents.buckets, strict=True))
    for batch in batches:
        F, H, W = shapes[kind_of(batch)]
        assert batch.x0.shape == (2, 3, F, 4, H // 8, W // 8)
    drawn = Counter(map(kind_of, batches))
    assert drawn["short"] == pytest.approx(80, abs=20)
    assert drawn["long"] == pytest.approx(40, abs=15)
    assert drawn["wide"] == pytest.approx(20, abs=12)
    assert len({id for batch in batches for id in batch.ids}) == 14


def test_films_are_brought_to_the_size_of_their_bucket(films) -> None:
    batches = take(build_loader(films), 10)
    shapes = dict(zip(HOME, films.buckets, strict=True))
    assert len(set(map(kind_of, batches))) > 1
    for batch in batches:
        F, H, W = shapes[kind_of(batch)]
        assert batch.x0.shape == (2, 3, F, 4, H, W)


def test_batches_after_a_resume_are_those_that_would_have_come(latents) -> None:
    whole, loader = take(build_loader(latents), 9), build_loader(latents)
    iterator = iter(loader)
    for _ in range(4):
        next(iterator)
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = build_loader(latents)
    resumed.load_state_dict(state)
    for first, second in zip(whole[4:], take(resumed, 5), strict=True):
        assert first.ids == second.ids
        assert torch.equal(first.x0, second.x0)


def test_all_processes_have_the_same_bucket_at_a_step_whatever_their_number(latents) -> None:
    alone = [kind_of(batch) for batch in take(build_loader(latents), 12)]
    assert len(set(alone)) > 1
    pair = [take(build_loader(latents, rank, 2), 12) for rank in range(2)]
    for batches in pair:
        assert list(map(kind_of, batches)) == alone
    assert any(a.ids != b.ids for a, b in zip(*pair, strict=True))


def test_cut_pictures_show_the_middle_and_a_smaller_field_of_view(films) -> None:
    tall = DataConfig(**{**vars(films), "buckets": ((3, 16, 64),), "batch_size": 1})
    batch = next(batch for batch in build_loader(tall) if kind_of(batch) == "wide")
    whole = math.tan(math.radians(regular_orbit(4, 4).fov_y) / 2)
    assert math.tan(math.radians(float(batch.cond["fov_y"][0])) / 2) == pytest.approx(whole / 2, rel=1e-5)
    alpha = batch.x0[0, 0, 0, 3]
    assert alpha.shape == (16, 64)
    assert (alpha[:, 26:38] > 0.9).all()  # the square's middle, 16 of 32 rows
    assert (alpha[:, :20] < -0.9).all()


def test_shards_with_an_older_index_are_sorted_by_what_they_hold(latents, tmp_path) -> None:
    samples = [sample("short", 0, True), sample("wide", 1, True)]
    write_shard(tmp_path / "shard-000000.tar", samples)
    path = index_path(tmp_path / "shard-000000.tar")
    index = json.loads(path.read_text())
    for entry in index["entries"]:
        assert entry.pop("shape")[1:] == list(STORED[entry["key"].partition("-")[0]])
    path.write_text(json.dumps(index))
    config = DataConfig(**{**vars(latents), "shards": str(tmp_path), "batch_size": 1})
    assert {kind_of(batch) for batch in take(build_loader(config), 20)} == {"short", "wide"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"buckets": ((3, 32, 32), (3, 32, 32))}, "each is .frames, height, width., once"),
        ({"buckets": ((0, 32, 32),)}, "each is .frames, height, width., once"),
        ({"buckets": ((50, 32, 32),)}, "no sample has the views, frames and size"),
        ({"creature_weight": 1.0}, "data.options.buckets are for shards alone"),
        ({"shards": ""}, "data.options.buckets are for shards alone"),
    ],
)
def test_wrong_buckets_are_refused(latents, changes, words) -> None:
    with pytest.raises(UserError, match=words):
        build_loader(DataConfig(**{**vars(latents), **changes}))
