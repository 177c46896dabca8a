"""Perceptual distances between two images: LPIPS, ST-LPIPS, CLIP-S, and LPIPS*, a filter bank under its own name."""

from __future__ import annotations

import contextlib
import inspect
import io
import socket
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torch import Tensor
from torch.nn import functional

from viewtime.errors import UserError, first_line, require

from .filter_bank import FilterBank
from .video import file_checksum

BACKBONES = {  # what torchvision's hub calls the files
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
CONTRAST = 0.02  # energy of the filter bank below which a difference counts as invisible
CHUNK_PIXELS = 32 * 256 * 256  # of the images that a network sees at a time; 32 of 576 pixels took VGG 27 GB


def in_chunks(images: Tensor) -> tuple[Tensor, ...]:
    """[M, 3, H, W] in parts that a network sees at a time."""
    height, width = images.shape[-2:]
    return images.split(max(1, CHUNK_PIXELS // (height * width)))


class ImagePairMetric(Protocol):
    """One number per pair of images [M, 3, H, W] in [0, 1]; `protocol` says how, with the weights' checksum."""

    protocol: str

    def __call__(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Float32 [M] on the CPU."""
        ...


class Lpips:
    """LPIPS (Zhang et al. 2018) of the `lpips` package, version 0.1, at the images' own size."""

    def __init__(self, net: str = "alex", device: str = "cpu", offline: bool = False) -> None:
        library = require("lpips", "metrics")
        backbone = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONES[net]
        if offline and not backbone.is_file():
            raise UserError(f"LPIPS needs {BACKBONES[net]} in {backbone.parent}, and downloads are off")
        try:
            # The library prints its set-up and uses names that torchvision has deprecated.
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.module = library.LPIPS(net=net, verbose=False).to(device).eval()
        except (URLError, OSError, RuntimeError) as error:
            place = backbone.parent
            raise UserError(f"LPIPS cannot fetch {BACKBONES[net]}: {error}; put it into {place}") from error
        self.device = device
        self.protocol = f"lpips 0.1, {net}, {file_checksum(backbone)}; RGB in [-1, 1] at the grid's size"

    @torch.no_grad()
    def __call__(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Distance per pair, [M]; lower is better."""
        pairs = zip(in_chunks(pred), in_chunks(gt))
        values = [self.module(a.to(self.device), b.to(self.device), normalize=True).flatten() for a, b in pairs]
        return torch.cat(values).cpu()


class StLpips:
    """ST-LPIPS (Ghildyal and Liu 2022), which does not mind a shift by a pixel; its package brings all its weights.

    Args:
        net: "alex" or "vgg".

    Raises:
        UserError: `stlpips-pytorch` is not installed.
    """

    def __init__(self, net: str = "alex", device: str = "cpu") -> None:
        library = require("stlpips_pytorch.stlpips", "metrics")
        weights = Path(inspect.getfile(library)).parent / "weights" / "vST0.0" / f"{net}_shift_tolerant.pth"
        self.module = library.LPIPS(net=net, variant="shift_tolerant", verbose=False).to(device).eval()
        self.device = device
        self.protocol = f"stlpips-pytorch vST0.0, {net}, {file_checksum(weights)}; RGB in [-1, 1] at the grid's size"

    @torch.no_grad()
    def __call__(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Distance per pair, [M]; lower is better."""
        pairs = zip(in_chunks(pred), in_chunks(gt))
        values = [self.module(a.to(self.device), b.to(self.device), normalize=True).flatten() for a, b in pairs]
        return torch.cat(values).cpu()


class LpipsStar:
    """LPIPS*: contrast-normalised difference of the filter bank's responses. No learned network; ranks only.

    Per level: mean over places of |a - b|² / (|a|² + |b|² + 0.02²), a and b the complex responses of all
    orientations; averaged over the levels; plus the mean squared difference of the 8 × 8 colour layout.
    """

    def __init__(self, bank: FilterBank) -> None:
        self.bank = bank
        self.protocol = f"{bank.name}, {bank.checksum}; {bank.preprocessing}"

    @torch.no_grad()
    def __call__(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Distance per pair, [M]; lower is better; 0 for equal images."""
        return torch.cat([self._chunk(a, b) for a, b in zip(in_chunks(pred), in_chunks(gt))]).cpu()

    def _chunk(self, pred: Tensor, gt: Tensor) -> Tensor:
        levels_a, colour_a = self.bank.maps(self.bank.prepare(pred))
        levels_b, colour_b = self.bank.maps(self.bank.prepare(gt))
        distance = ((colour_a - colour_b) ** 2).mean(dim=(1, 2, 3))
        for a, b in zip(levels_a, levels_b, strict=True):
            difference = ((a - b).abs() ** 2).sum(dim=1)
            energy = (a.abs() ** 2 + b.abs() ** 2).sum(dim=1)
            distance = distance + (difference / (energy + CONTRAST**2)).mean(dim=(1, 2)) / len(levels_a)
        return distance


@contextlib.contextmanager
def _hub_calls(offline: bool) -> Iterator[None]:
    """Let the hub's client use its cache alone where there is no connection; it would retry for a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or offline or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(address: str) -> bool:
    if urllib.request.getproxies():  # the proxy resolves the name, not we
        return True
    url = urlparse(address)
    try:
        socket.create_connection((url.hostname, url.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


class ClipSimilarity:
    """CLIP-S between images: cosine of the two image embeddings (SV4D, "Metrics"); higher is better."""

    def __init__(
        self, model: str = "ViT-B-32", weights: str = "openai", device: str = "cpu", offline: bool = False
    ) -> None:
        library = require("open_clip", "metrics")
        path = Path(weights)
        if not path.is_file() and (path.suffix or "/" in weights):
            raise UserError(f"no such CLIP weights file: {weights}")
        if not path.is_file() and (model, weights) not in library.list_pretrained():
            raise UserError(f"open_clip knows no weights {weights!r} for {model!r}; see open_clip.list_pretrained()")
        try:
            # The weights of OpenAI were trained with another activation than open_clip's own.
            quick = weights == "openai"
            with _hub_calls(offline):
                self.module = library.create_model(model, pretrained=weights, device=device, force_quick_gelu=quick)
        except Exception as error:  # the hub's client raises a dozen kinds of its own for "no connection"
            reason = first_line(error)
            raise UserError(f"CLIP-S cannot load {model} {weights}: {reason}; give --clip-weights FILE") from error
        self.module.eval()
        self.tokenizer = library.tokenizer.SimpleTokenizer(context_length=self.module.context_length)
        self.device, size = device, self.module.visual.image_size
        self.size = size if isinstance(size, tuple) else (size, size)
        origin = file_checksum(path) if path.is_file() else weights
        self.protocol = f"open_clip {model}, {origin}; resampled to {self.size[0]}×{self.size[1]}, bicubic antialias"

    @torch.no_grad()
    def __call__(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Cosine per pair, [M]."""
        pairs = zip(in_chunks(pred), in_chunks(gt))
        values = [functional.cosine_similarity(self._embed(a), self._embed(b), dim=-1) for a, b in pairs]
        return torch.cat(values).float().cpu()

    @torch.no_grad()
    def with_text(self, images: Tensor, text: str) -> Tensor:
        """Cosine of each image [M, 3, H, W] with a text, [M]."""
        embedded = self.module.encode_text(self.tokenizer([text]).to(self.device))
        values = [functional.cosine_similarity(self._embed(part), embedded, dim=-1) for part in in_chunks(images)]
        return torch.cat(values).float().cpu()

    def _embed(self, images: Tensor) -> Tensor:
        images = functional.interpolate(images.to(self.device).float(), self.size, mode="bicubic", antialias=True)
        mean, deviation = (
            torch.tensor(values, device=self.device)[:, None, None] for values in (CLIP_MEAN, CLIP_DEVIATION)
        )
        return self.module.encode_image((images.clamp(0, 1) - mean) / deviation)
