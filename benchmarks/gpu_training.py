"""One optimiser step of every training preset on a card that is not there: the project's own loop at the preset's size.

The step is `Trainer.step`: conditioning, noise, drafts, the network under autocast with recomputed activations, loss,
critic, backward, clipping, optimiser, averages; with adapters where the preset asks for them. Weight files are not
read, batches are random, nothing is compiled; one process, and one micro-batch of however many the preset accumulates.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fake_card import FakeCard
from benchmarks.fake_gpu import Cost
from viewtime.cameras import DEFAULT_FOV_Y
from viewtime.configs.load import build, load_preset, presets
from viewtime.configs.schema.train import Stage, TrainConfig
from viewtime.model.four_real.upsampler import shrink
from viewtime.model.published.presets import load_model_config
from viewtime.train.distributed import reduced_dtype
from viewtime.train.loop import Trainer, stage_loss
from viewtime.train.prepare import autocast_inside, prepare_model
from viewtime.train.streams.synthetic import SyntheticStream
from viewtime.train.video_grids import video_conditions

TRAINING = tuple(presets("train"))
CLIP_WIDTH, LATENT_SIDE = 1024, 72


class OneCard:
    """What the loop asks of accelerate's Accelerator, for one process on one card."""

    device = torch.device("cuda", 0)
    process_index, num_processes = 0, 1
    is_main_process = False
    distributed_type = "DistributedType.NO"
    step = 0

    def __init__(self, config: TrainConfig) -> None:
        self.dtype = reduced_dtype(config)

    def prepare(self, *parts: Any) -> Any:
        """Autocast around each network, as accelerate does."""
        for part in parts:
            if isinstance(part, nn.Module) and self.dtype is not None:
                autocast_inside(part, self.device, self.dtype)
        return parts

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """Nothing is wrapped."""
        return model

    def accumulate(self, *models: nn.Module) -> Any:
        """Every micro-batch steps."""
        del models
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Gradients."""
        loss.backward()

    def clip_grad_norm_(self, parameters: list[Tensor], limit: float) -> Tensor:
        """PyTorch's own."""
        return torch.nn.utils.clip_grad_norm_(parameters, limit)


def without_files(name: str, output: Path) -> TrainConfig:
    """A preset without weight files, compilation and trackers."""
    mapping = load_preset(name, "train")
    model = dict(mapping["model"])
    model |= {"weights": None, "grown": False, "compile": False}
    model["config"] = {key: value for key, value in model.get("config", {}).items() if key != "start"}
    optimizer = {**mapping.get("optimizer", {}), "accumulate": 1}
    tracking = {"log_every": 10**9}
    changed = {**mapping, "model": model, "optimizer": optimizer, "tracking": tracking, "output": str(output)}
    return build(TrainConfig, {"config": name, **changed}, name)


def largest_stage(config: TrainConfig) -> Stage:
    """The stage with the most pixels in a batch."""

    def pixels(stage: Stage) -> int:
        o = {**config.data.options, **stage.data}
        side = o.get("resolution", o.get("size", 1))
        return stage.batch_size * o.get("views", 1) * o.get("frames", 1) * side * o.get("width", side)

    return max(config.stages, key=pixels)


def random_batch(config: TrainConfig, stage: Stage) -> dict[str, Any]:
    """What the preset's stream would give, with the conditions that its model reads."""
    o: dict[str, Any] = {**config.data.options, **stage.data}
    latents = o.get("kind") == "latents"
    side = LATENT_SIDE if latents else o.get("resolution", o.get("size", config.model.config.get("size", 16)))
    shape = {"views": o.get("views", 3), "frames": o.get("frames", 2), "channels": o.get("channels", 4), "size": side}
    stream = SyntheticStream(stage.batch_size, 0, 0, 1, **shape, width=None if latents else o.get("width"))
    batch = next(iter(stream))
    if "text" in o:
        batch["cond"]["text"] = torch.zeros(stage.batch_size, 77, o["text"]["width"])
    if "words" in o:
        batch["cond"] |= {"words": torch.zeros(stage.batch_size, len(o["words"])), "instant": batch["cond"]["azimuth"]}
    if o.get("on_the_fly", {}).get("solid"):
        cells = torch.rand(stage.batch_size, shape["frames"], *(shape["size"] // 2,) * 3)
        batch["cond"] |= {"solid": cells, "fov_y": torch.full((stage.batch_size,), DEFAULT_FOV_Y)}
    if "factor" in o:
        batch["cond"]["small"] = shrink(batch["x0"], o["factor"])
    if latents:
        batch["cond"]["clip"] = torch.randn(*batch["x0"].shape[:3], CLIP_WIDTH)
        x0, cond = video_conditions(batch["x0"], batch["cond"], load_model_config(o["preset"]))
        batch |= {"x0": x0, "cond": cond}
    return batch


def _on_meta(section: Any) -> nn.Module:
    with torch.device("meta"):
        return prepare_model(section)


@contextmanager
def fake_trainer(config: TrainConfig) -> Iterator[Trainer]:
    """A trainer on the pretended card; call within `fake_card`."""
    with (
        mock.patch("viewtime.train.loop.make_accelerator", OneCard),
        mock.patch("viewtime.train.loop.prepare_model", _on_meta),
        mock.patch("viewtime.train.loop.settle_precision", lambda config: config),
        mock.patch("viewtime.train.loop.Validator"),
        mock.patch("viewtime.train.watch.report.Report.count_flops"),
    ):
        yield Trainer(config)


def training_step(card: FakeCard, name: str, change: Callable[[TrainConfig], TrainConfig] = lambda c: c) -> Cost:
    """Cost of a preset's second step, when the optimiser's state is there; its peak counts all of it."""
    with tempfile.TemporaryDirectory() as folder:
        config = change(without_files(name, Path(folder)))
        stage = largest_stage(config)
        config = replace(config, ema=replace(config.ema, every=1))
        batch = random_batch(config, stage)
        with fake_trainer(config) as trainer:
            trainer.progress.stage = config.stages.index(stage)
            loss = stage_loss(config, stage)
            endless = iter(lambda: batch, None)
            trainer.step(stage, loss, endless)
            with card.record() as cost:
                trainer.step(stage, loss, endless)
    return cost
