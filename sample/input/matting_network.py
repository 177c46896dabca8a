"""Networks that tell an object from its background in one picture: the small one that ships, larger ones found here.

U²-Net (Qin et al., Pattern Recognition 2020) in ONNX. `assets/u2netp.onnx` is its small form, 4.6 MB, Apache-2.0
(`assets/u2netp.md`). The larger files are those that rembg downloads; they are used where they already lie.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import viewtime
from viewtime.errors import UserError, first_line

SHIPPED = Path(viewtime.__file__).resolve().parent / "assets" / "u2netp.onnx"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED = ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Kind:
    """How a network wants its picture: side in pixels, mean and deviation of the channels, outputs logits or not."""

    side: int
    normal: tuple[tuple[float, ...], tuple[float, ...]]
    logits: bool = False


# From the best to the one that is always there.
KINDS = {
    "birefnet-general": Kind(1024, IMAGENET, logits=True),
    "birefnet-general-lite": Kind(1024, IMAGENET, logits=True),
    "isnet-general-use": Kind(1024, CENTRED),
    "u2net": Kind(320, IMAGENET),
    "u2netp": Kind(320, IMAGENET),
}


def network_folder() -> Path:
    """Where rembg keeps the networks that it downloads."""
    return Path(os.environ.get("U2NET_HOME", Path.home() / ".u2net")).expanduser()


def find_network(name: str | None = None) -> tuple[str, Path]:
    """Name and file of a network; None takes the best that is on this machine.

    Raises:
        UserError: the named one is unknown or is not here.
    """
    if name is not None and name not in KINDS:
        raise UserError(f"--preprocess.network {name}; known: {', '.join(KINDS)}")
    for candidate in KINDS if name is None else (name,):
        file = SHIPPED if candidate == "u2netp" else network_folder() / f"{candidate}.onnx"
        if file.is_file():
            return candidate, file
    raise UserError(
        f"--preprocess.network {name}: there is no {network_folder() / f'{name}.onnx'}; put rembg's file of that name "
        "there, or leave the option out: u2netp ships with viewtime"
    )


class MattingNetwork:
    """A network ready to run.

    Raises:
        UserError: see `find_network`; or the file is damaged.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name, file = find_network(name)
        self.kind = KINDS[self.name]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, onnxruntime.get_available_providers())
        except Exception as error:  # onnxruntime's errors have no common class
            raise UserError(f"{file} is no matting network that can be run: {first_line(error)}") from error

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """How much each pixel belongs to an object: uint8 [H, W, 3] -> float32 [side, side] in [0, 1]."""
        side = self.kind.side
        small = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR), np.float32)
        mean, deviation = (np.array(values, np.float32) for values in self.kind.normal)
        normal = (small / max(float(small.max()), 1.0) - mean) / deviation
        planes = np.ascontiguousarray(normal.transpose(2, 0, 1)[None])
        out = self.session.run(None, {self.session.get_inputs()[0].name: planes})
        answer = np.asarray(out[-1 if self.kind.logits else 0], np.float32).reshape(side, side)
        return 1 / (1 + np.exp(-answer)) if self.kind.logits else answer.clip(0, 1)
