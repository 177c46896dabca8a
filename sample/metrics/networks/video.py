"""Video feature networks: I3D, R3D and S3D from the user's weights, and the filter bank that needs none.

A network that is not there is an error that says so; none ever stands in for another.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Literal, Protocol
from urllib.error import URLError

import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from viewtime.errors import UserError, first_line, require

from .filter_bank import FilterBank
from .script_file import ScriptFile

NetworkName = Literal["filter-bank", "i3d", "r3d", "s3d"]


class VideoNetwork(Protocol):
    """Clips to feature vectors.

    Attributes:
        name: as printed beside the numbers.
        star: the distances are named with a star: not the field's FVD.
        min_frames: shortest clip.
        preprocessing: what `prepare` does, in words.
        checksum: of the weights.
    """

    name: str
    star: bool
    min_frames: int
    preprocessing: str
    checksum: str

    def prepare(self, images: Tensor) -> Tensor:
        """[M, 3, H, W] in [0, 1] -> [M, 3, h, w] at the network's size and range."""
        ...

    def __call__(self, clips: Tensor) -> Tensor:
        """Prepared clips [N, T, 3, h, w] -> float32 [N, D] on the CPU."""
        ...


def load_video_network(
    name: NetworkName, weights: Path | None = None, device: str = "cpu", offline: bool = False
) -> VideoNetwork:
    """The network of that name.

    Args:
        weights: I3D's TorchScript file; for R3D and S3D a state dict (.pth or .safetensors). R3D and S3D are
            downloaded by torchvision where this is None and `offline` is not set.

    Raises:
        UserError: the weights are missing, damaged or cannot be fetched; or weights given to the filter bank.
    """
    if name == "filter-bank":
        if weights is not None:
            raise UserError(f"the filter bank takes no weights; got {weights}; name the network they belong to")
        return FilterBank(device)
    if weights is not None and not weights.is_file():
        raise UserError(f"no such weights file for {name}: {weights}")
    if name == "i3d":
        if weights is None:
            raise UserError(
                "I3D needs its TorchScript file (commonly i3d_torchscript.pt): give its path as --network-weights"
            )
        return I3D(weights, device)
    return TorchvisionVideo(name, weights, device, offline)


def file_checksum(path: Path) -> str:
    """First 16 hex digits of the SHA-256, as printed beside the numbers."""
    with path.open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


class I3D:
    """Inception-I3D on Kinetics-400 in the TorchScript file of StyleGAN-V: what most papers call FVD.

    Frames are resampled as those papers do: bilinear to 224 × 224 without antialiasing, range [-1, 1]; the
    features are the 400 logits.
    """

    name = "I3D (TorchScript)"
    star = False
    min_frames = 10
    preprocessing = "RGB resampled to 224×224, bilinear without antialiasing; range [-1, 1]"

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.network, self.checksum = ScriptFile(path, device, "I3D of Kinetics-400"), file_checksum(path)

    def prepare(self, images: Tensor) -> Tensor:
        """[M, 3, H, W] in [0, 1] -> [M, 3, 224, 224] in [-1, 1]."""
        images = images.to(self.network.device).float()
        return functional.interpolate(images, (224, 224), mode="bilinear", align_corners=False) * 2 - 1

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> Tensor:
        """Prepared clips [N, T, 3, 224, 224] -> logits [N, 400]."""
        videos = rearrange(clips, "n t c h w -> n c t h w")
        return self.network(videos, rescale=False, resize=False, return_features=True)


class TorchvisionVideo:
    """R3D-18 or S3D of torchvision on Kinetics-400; the features are the last maps, averaged over space and time."""

    star = False

    def __init__(self, name: str, weights: Path | None, device: str = "cpu", offline: bool = False) -> None:
        models = require("torchvision.models.video", "metrics")
        builder, published, self.side, self.min_frames = {
            "r3d": (models.r3d_18, models.R3D_18_Weights.KINETICS400_V1, 112, 8),
            "s3d": (models.s3d, models.S3D_Weights.KINETICS400_V1, 224, 8),
        }[name]
        self.name = {"r3d": "R3D-18", "s3d": "S3D"}[name]
        path = weights or Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
        if not path.is_file():
            _download(published.url, path, self.name, offline)
        model = builder(weights=None)
        _load(model, path, self.name)
        if name == "r3d":
            model.fc = nn.Identity()
            self.module = model
        else:
            self.module = nn.Sequential(model.features, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.module = self.module.to(device).eval()
        self.device, self.checksum = torch.device(device), file_checksum(path)
        self.mean, self.deviation = (
            torch.tensor(values, device=device)[:, None, None]
            for values in ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
        )
        self.preprocessing = (
            f"RGB resampled to {self.side}×{self.side} whole (no crop), bilinear with antialiasing; "
            "Kinetics mean and deviation"
        )

    def prepare(self, images: Tensor) -> Tensor:
        """[M, 3, H, W] in [0, 1] -> [M, 3, side, side], normalised."""
        size = (self.side, self.side)
        images = functional.interpolate(images.to(self.device).float(), size, mode="bilinear", antialias=True)
        return (images - self.mean) / self.deviation

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> Tensor:
        """Prepared clips [N, T, 3, side, side] -> [N, 512] (R3D) or [N, 1024] (S3D)."""
        return self.module(rearrange(clips.to(self.device), "n t c h w -> n c t h w")).float().cpu()


def _download(url: str, path: Path, name: str, offline: bool) -> None:
    if offline:
        raise UserError(f"{name} has no weights on this machine ({path.name}); give --network-weights FILE")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(f"{name} cannot be downloaded from {url}: {error}; give --network-weights FILE") from error


def _load(model: nn.Module, path: Path, name: str) -> None:
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (RuntimeError, pickle.UnpicklingError, OSError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no weights of {name}: {first_line(error)}") from error
