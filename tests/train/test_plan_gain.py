"""The benchmark of training as sampling asks: its small SV4D is told the same when sampled as in training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.plan_gain import (
    FRAMES,
    INGREDIENTS,
    PRESET,
    VIEWS,
    Components,
    SmallModel,
    blocks,
    table,
    training_config,
    truths,
)
from viewtime.cameras import regular_orbit
from viewtime.configs.load import load_preset
from viewtime.configs.schema.sample import PlanOptions
from viewtime.grid import FrameGrid
from viewtime.run_folder import plain
from viewtime.sample.models.grid_model import Request
from viewtime.sample.models.mini_model import encode_cells
from viewtime.sample.plan.plan import input_row
from viewtime.sample.run.settle import settle_plan
from viewtime.train.state.same_config import flat
from viewtime.train.video_grids import video_conditions, video_grid_denoiser
from viewtime.weights import save_weights


@pytest.fixture(scope="module")
def grids(tmp_path_factory) -> Path:
    """Two training clips and a held-out one: squares of random colours under a ramp."""
    folder = tmp_path_factory.mktemp("grids")
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.3, 1.0, 32)[:, None] * np.linspace(0.5, 1.0, 32)
    for name, held_out in (("a", False), ("b", False), ("c", True)):
        coarse = rng.integers(0, 256, (VIEWS, FRAMES, 4, 16, 16)).repeat(2, -1).repeat(2, -2)
        np.save(folder / f"{name}.npy", (coarse * ramp).astype(np.uint8))
        cameras = regular_orbit(VIEWS, FRAMES, elevation=12.0)
        record = {"id": name, "held_out": held_out, "fps": 8.0, "cameras": cameras.to_json()}
        (folder / f"{name}.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def model(grids, tmp_path_factory) -> SmallModel:
    """The network as it begins."""
    torch.manual_seed(0)
    fresh = video_grid_denoiser(str(PRESET))
    tensors = {f"network.{name}": value for name, value in fresh.network.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    return SmallModel(save_weights(path, tensors, {"model": fresh.exported_model}), grids)


def test_what_the_components_leave_out_is_the_smallest_variance(grids):
    parts = [torch.from_numpy(np.load(grids / f"{name}.npy")[::4, ::7]).float() / 255 for name in "ab"]
    cells = encode_cells(torch.cat(parts))
    made = Components.of(grids, 16)
    assert torch.allclose(made.basis @ made.basis.T, torch.eye(16), atol=1e-4)
    latents = made.encode(cells)
    assert latents.shape[2:] == (16, 8, 8)
    assert float(latents.square().mean()) == pytest.approx(1, abs=1e-3)
    assert torch.allclose(made.encode(made.decode(latents)), latents, atol=1e-4)
    values = blocks(cells).movedim(2, -1).reshape(-1, 64).double()
    smallest = torch.linalg.eigvalsh(torch.cov(values.T, correction=0))[:-16].sum() / 64
    assert float((made.decode(latents) - cells).square().mean()) == pytest.approx(float(smallest), rel=1e-3)


@pytest.mark.parametrize(
    ("stage", "direction", "order"),
    [
        ("anchor", "", [0, 4, 8, 12, 16, 20]),
        ("dense", "forward", [0, 1, 2, 3, 4]),
        ("dense", "backward", [4, 3, 2, 1, 0]),
    ],
)
def test_a_window_of_the_plan_is_told_what_training_tells_it(grids, model, stage, direction, order):
    """The first frame of `order` is the reference; an anchor window lies behind it, a dense one begins with it."""
    truth: FrameGrid = truths(grids, 1)[0]
    given = input_row(FRAMES) | {(1, 0), (2, 0)}
    plan = settle_plan(model.traits, 2, FRAMES, given, PlanOptions())
    window = next(window for window in plan.windows if window.stage == stage)
    way = next(way for way in window.directions if way.name == direction)
    outside = len(order) - model.traits.window_frames
    assert list(way.frames) == order[outside:]

    def read(cells):
        return torch.stack([truth.frames[view, frame] for view, frame in cells])

    assert truth.cameras is not None
    told, empty = model.conditions(Request(window, way, truth.cameras, read))
    shown = encode_cells(truth.frames[:, order])[None]
    clip = torch.nn.functional.adaptive_avg_pool2d(shown.flatten(0, 2), 4).reshape(*shown.shape[:3], 64)
    cameras = {name: getattr(truth.cameras, name)[:, order][None] for name in ("elevation", "azimuth")}
    _, trained = video_conditions(model.components.encode(shown), {**cameras, "clip": clip}, model.config, outside)
    vector = torch.cat([trained.pop("frame_vector"), trained.pop("camera_vector")], dim=-1)
    for name, value in {**trained, "vector": vector}.items():
        assert torch.allclose(told[name], value, atol=1e-5), name
    assert not empty["concat"].any()
    assert not empty["reference_views"].any()


def test_after_is_the_presets_training_and_each_ingredient_one_change(tmp_path):
    def made(name: str) -> dict:
        return flat(plain(training_config(name, 0, tmp_path, tmp_path, 9)))

    after, preset = made("after"), load_preset("sv4d-train", "train")
    for key in ("max_stride", "outside_reference"):
        assert after[f"data.options.{key}"] == preset["data"]["options"][key]
    assert after["data.options.augment.reverse"] == preset["data"]["options"]["augment"]["reverse"]
    assert {key: after[f"conditioning.dropout.{key}"] for key in preset["conditioning"]["dropout"]} == preset[
        "conditioning"
    ]["dropout"]
    changed = set()
    for name in INGREDIENTS:
        other = made(f"after, no {name}")
        differ = {key for key in after.keys() | other.keys() if after.get(key) != other.get(key)}
        assert differ
        assert not differ & changed
        changed |= differ
    before = made("before")
    assert {key for key in after.keys() | before.keys() if after.get(key) != before.get(key)} == changed


def test_the_table_has_a_row_for_each_training_and_seed():
    rows = {("before", 0): {"PSNR": 1.0, "mask IoU": 0.5}, ("after", 0): {"PSNR": 2.0, "mask IoU": 0.25}}
    assert table("sv4d", rows).split("\n")[1:] == [
        "| sv4d | seed | PSNR | mask IoU |",
        "|---|---|---|---|",
        "| before | 0 | 1.000 | 0.500 |",
        "| after | 0 | 2.000 | 0.250 |",
    ]
