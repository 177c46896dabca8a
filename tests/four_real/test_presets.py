"""Presets: sizes, the road from a base model to a trained grid model, and every kind of model through the loop."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from viewtime.configs.load import build, load_preset, presets
from viewtime.configs.schema.data import DataConfig
from viewtime.configs.schema.train import TrainConfig
from viewtime.errors import UserError
from viewtime.model.four_real.assemble import main as assemble
from viewtime.model.four_real.base import BaseVideoModel
from viewtime.model.four_real.config import BaseConfig, GridConfig
from viewtime.model.four_real.grid import GridModel
from viewtime.model.parameter_table import describe_preset, parameter_counts
from viewtime.model.registry import build_denoiser, build_network
from viewtime.train.loop import Trainer
from viewtime.weights import load_weights, read_header

pytest.importorskip("accelerate")
FOUR_REAL = [name for name in presets() if name.startswith("4real")]


@pytest.mark.parametrize("name", FOUR_REAL)
def test_presets_fit_the_schema_and_build(name):
    config = build(TrainConfig, {**load_preset(name), "config": name}, name)
    with torch.device("meta"):
        network = build_network(config.model.name, config.model.config)
    assert sum(p.numel() for p in network.parameters()) > 0
    for stage in config.stages:
        options = {**config.data.options, **stage.data}
        if config.data.factory != "synthetic":
            data = build(
                DataConfig,
                {key: value for key, value in options.items() if key not in ("factor", "noise", "of", "text")},
            )
            assert data.channels == network.config.channels  # type: ignore[union-attr]
            base: BaseConfig = getattr(network.config, "base", network.config)  # type: ignore[assignment]
            assert data.resolution % base.patch == 0
            # Every stage has the shape of the frames that the model ends with, and none is larger.
            assert data.width is not None
            assert data.resolution * base.frame_size[1] == data.width * base.frame_size[0]
            assert data.resolution <= base.frame_size[0]
            if base.text_width and not name.endswith("upsampler"):
                assert options["text"]["width"] == base.text_width
                assert config.conditioning.dropout["text"] > 0
            assert bool(data.videos) or bool(data.assets)


def test_base_has_about_600M_parameters_and_synchronisation_is_a_share(capsys):
    with torch.device("meta"):
        network = build_network("4real", load_preset("4real")["model"]["config"])
    counts = parameter_counts(network)
    assert 540e6 < counts["base"] < 660e6
    assert 0.1 < counts["synchronisation"] / sum(counts.values()) < 0.3
    assert counts["synchronisation"] == sum(p.numel() for p in network.parameters() if p.requires_grad)
    from viewtime.cli import main

    assert main(["info", "4real"]) == 0
    printed = capsys.readouterr().out
    assert describe_preset("4real") in printed
    assert f"{counts['base'] / 1e6:.2f}M" in printed


def run_preset(mapping: dict, folder: Path) -> Trainer:
    config = build(TrainConfig, {**mapping, "output": str(folder), "device": "cpu"}, "test")
    trainer = Trainer(config)
    trainer.run()
    return trainer


def test_base_to_grid_to_trained_grid(tmp_path):
    """Train a base on rows and columns, assemble, train two stages: the base's weights come out unchanged."""
    debug = load_preset("4real-debug")
    base = copy.deepcopy(debug)
    base["model"] = {"name": "4real-base", "config": debug["model"]["config"]["base"]}
    base["conditioning"] = {"masking": {"random": 1.0}}
    run_preset(base, tmp_path / "base")
    assert assemble([str(tmp_path / "base" / "weights.safetensors"), str(tmp_path / "start.safetensors")]) == 0
    debug["model"]["weights"] = str(tmp_path / "start.safetensors")
    trainer = run_preset(debug, tmp_path / "grid")
    assert trainer.progress.step == 4
    record, _ = read_header(tmp_path / "grid" / "weights.safetensors")
    assert record["model"]["name"] == "4real"
    trained = load_weights(
        GridModel(build(GridConfig, record["model"]["config"])), tmp_path / "grid" / "weights.safetensors"
    )
    start = load_weights(GridModel(build(GridConfig, record["model"]["config"])), tmp_path / "start.safetensors")
    for name, tensor in start.state_dict().items():
        if name.startswith("base."):
            assert torch.equal(tensor, trained.state_dict()[name]), name
    assert not torch.equal(start.state_dict()["synchronisation.0.update.weight"],
                           trained.state_dict()["synchronisation.0.update.weight"])  # fmt: skip
    records = [json.loads(line) for line in (tmp_path / "grid" / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(record["loss"]) for record in records if "loss" in record)


def test_assembling_from_another_file_names_it(tmp_path, capsys):
    from viewtime.weights import save_weights

    path = save_weights(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {"model": {"name": "mini"}})
    assert assemble([str(path), str(tmp_path / "y.safetensors")]) == 1
    assert "no 4real-base model" in capsys.readouterr().err


def test_upsampler_trains_from_any_stream(tmp_path):
    mapping = load_preset("4real-small-upsampler")
    mapping["model"]["config"]["base"] |= {"width": 32, "head_dim": 16, "depth": 2}
    mapping["data"] = {
        "factory": mapping["data"]["factory"],
        "options": {"factor": 4, "of": "synthetic", "views": 2, "frames": 2, "channels": 3, "size": 32},
    }
    mapping["stages"] = [{"name": "two steps", "lr": 1e-3, "batch_size": 1, "steps": 2}]
    assert run_preset(mapping, tmp_path).progress.step == 2


@pytest.mark.parametrize("variant", ["soft", "hard", "sequential", "fused"])
def test_a_fixed_batch_is_learned_by_every_variant(variant):
    """With the base frozen, what trains by default lowers the loss on one batch."""
    torch.manual_seed(0)
    config = {**load_preset("4real-debug")["model"]["config"], "variant": variant}
    denoiser = build_denoiser("4real", config)
    with torch.no_grad():
        for parameter in denoiser.network.base.parameters():  # type: ignore[union-attr]
            parameter.add_(0.1 * torch.randn_like(parameter))
    x0 = torch.rand(1, 3, 3, 3, 12, 20) * 2 - 1
    known = torch.zeros(1, 3, 3, dtype=torch.bool)
    known[:, 0], known[:, :, 0] = True, True
    x = torch.where(known[..., None, None, None], x0, 0.3 * x0 + 0.7 * torch.randn_like(x0))
    cond = {"known": known, "known_frames": x0 * known[..., None, None, None]}
    optimiser = torch.optim.Adam([p for p in denoiser.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(6):
        loss = (denoiser(x, torch.full((1, 3, 3), 0.7) * ~known, cond) - x0)[~known].square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.98 * losses[0]


def test_an_unknown_preset_kind_is_named():
    with pytest.raises(UserError, match="sv4d"):
        describe_preset("sv4d-debug")


def test_base_weights_reach_every_variant(tmp_path):
    base = BaseVideoModel(build(GridConfig, load_preset("4real-debug")["model"]["config"]).base)
    torch.nn.init.normal_(base.head.project.weight)
    from viewtime.model.four_real.assemble import grid_from_base
    from viewtime.model.registry import resolved_config
    from viewtime.weights import save_weights

    path = save_weights(tmp_path / "b.safetensors", base.state_dict(),
                        {"model": {"name": "4real-base", "config": resolved_config(base)}})  # fmt: skip
    for variant in ("soft", "hard", "sequential", "fused"):
        grid = grid_from_base(path, variant)  # type: ignore[arg-type]
        assert torch.equal(grid.base.head.project.weight, base.head.project.weight)
