"""The metrics' networks on a card that is not there, at their published sizes with no weights.

I3D comes as a TorchScript file, which only its owner's code can enter: it runs on the strict device instead
(`tests/gpu_ready/test_metric_networks.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fake_card import FakeCard
from benchmarks.fake_gpu import Cost
from viewtime.errors import require
from viewtime.sample.metrics.networks.filter_bank import FilterBank
from viewtime.sample.metrics.networks.perceptual import ClipSimilarity, Lpips, LpipsStar, StLpips
from viewtime.sample.metrics.networks.video import TorchvisionVideo

CUDA = torch.device("cuda")
PICTURES, SIDE, CLIP = 32, 576, 21  # pictures at a time, their side, frames of a clip


def _bare(kind: type, module: nn.Module, **facts: Any) -> Any:
    """A metric around a network on the card, as its own constructor leaves it but for the weights."""
    made = object.__new__(kind)
    made.module, made.device = module.to("cuda").eval().requires_grad_(False), CUDA
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def lpips(backbone: str) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS with a backbone."""
    library = require("lpips", "metrics")
    with torch.device("meta"):
        module = library.LPIPS(net=backbone, pretrained=False, pnet_rand=True, verbose=False)
    return _bare(Lpips, module)


def stlpips(backbone: str) -> Callable[[Tensor, Tensor], Tensor]:
    """ST-LPIPS with a backbone."""
    library = require("stlpips_pytorch.stlpips", "metrics")
    with torch.device("meta"):
        module = library.LPIPS(net=backbone, variant="shift_tolerant", pretrained=False, pnet_rand=True, verbose=False)
    return _bare(StLpips, module)


def clip() -> Callable[[Tensor, Tensor], Tensor]:
    """CLIP-S."""
    library = require("open_clip", "metrics")
    with torch.device("meta"):
        module = library.model.CLIP(**library.get_model_config("ViT-B-32"), quick_gelu=True)
    return _bare(ClipSimilarity, module, size=(224, 224))


def video(name: str) -> TorchvisionVideo:
    """R3D-18 or S3D."""
    models = require("torchvision.models.video", "metrics")
    with torch.device("meta"):
        model = models.r3d_18(weights=None) if name == "r3d" else models.s3d(weights=None)
    if name == "r3d":
        model.fc = nn.Identity()
        module = model
    else:
        module = nn.Sequential(model.features, nn.AdaptiveAvgPool3d(1), nn.Flatten())
    mean = torch.zeros(3, 1, 1, device=CUDA)
    return _bare(TorchvisionVideo, module, side=112 if name == "r3d" else 224, mean=mean, deviation=mean + 1)


def pairs(card: FakeCard, make: Callable[[], Any]) -> Cost:
    """A metric of pairs of pictures of the host."""
    metric = make()
    pictures = torch.rand(PICTURES, 3, SIDE, SIDE)
    with card.record() as cost:
        metric(pictures, pictures)
    return cost


def clips(card: FakeCard, make: Callable[[], Any]) -> Cost:
    """A video network on one clip of the host."""
    network = make()
    pictures = torch.rand(CLIP, 3, SIDE, SIDE)
    with torch.no_grad(), card.record() as cost:
        network(network.prepare(pictures)[None])
    return cost


METRICS: dict[str, Callable[[FakeCard], Cost]] = {
    **{f"lpips {name}": partial(pairs, make=partial(lpips, name)) for name in ("alex", "vgg", "squeeze")},
    "st-lpips alex": partial(pairs, make=partial(stlpips, "alex")),
    "clip-s": partial(pairs, make=clip),
    "lpips*": partial(pairs, make=lambda: LpipsStar(FilterBank("cuda"))),
    "filter bank": partial(clips, make=lambda: FilterBank("cuda")),
    **{name: partial(clips, make=partial(video, name)) for name in ("r3d", "s3d")},
}
