"""The road of docs/data.md at a small size, as a user types it: curate, render, encode, train on the own shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_gltf import moving

from viewtime.cli import main
from viewtime.errors import UserError
from viewtime.render_objaverse.gl import GLRenderer


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


def test_a_folder_of_assets_becomes_shards_that_a_preset_trains_on(tmp_path: Path) -> None:
    try:
        GLRenderer(8).close()
    except UserError as error:
        pytest.skip(str(error))
    source = tmp_path / "assets"
    source.mkdir()
    moving(source / "a.glb", clips=("Walk", "Run"))
    moving(source / "b.glb", clips=("Walk", "Run"), seconds=2.0)  # another length: curation knows copies
    run("curate", source, "--out", tmp_path / "kept", "--licence", "CC0")
    run(
        *("render", tmp_path / "kept", "--out", tmp_path / "grids", "--engine", "gl", "--size", "16"),
        *("--views", "4", "--frames", "3", "--workers.count", "1"),
    )
    run("encode", tmp_path / "grids", "--out", tmp_path / "shards", "--workers", "1")
    assert json.loads((tmp_path / "shards" / "dataset.json").read_text())["samples"] == 4
    run(
        *("train", "--config", "mini-shards-debug", "--data.options.shards", tmp_path / "shards"),
        *("--output", tmp_path / "run", "--device", "cpu"),
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    measured = [line["val/mse@1"] for line in lines if "val/mse@1" in line]
    assert len(measured) >= 2
    assert np.isfinite(measured).all()
    assert measured[-1] < measured[0]  # of objects that are in no shard
    assert (tmp_path / "run" / "weights.safetensors").is_file()
