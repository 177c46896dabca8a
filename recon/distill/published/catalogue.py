"""The published guidances by name: what they look at, at which size, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..guidance.base import Kind
from ..losses.vsd import Prediction

FileForm = Literal["stable-diffusion", "mvdream", "zero123"]


@dataclass(frozen=True)
class Published:
    """One published network.

    Attributes:
        size: (height, width) in pixels that it sees.
        views: that attend to each other; 0 where there is no such thing. frames: of the videos it was trained on.
        predicts: noise or velocity; a diffusers folder's scheduler says it again and is believed.
        form: names in its single file; None where it comes as a diffusers folder alone.
        source: where to get it, and on which terms.
    """

    kind: Kind
    size: tuple[int, int]
    source: str
    form: FileForm | None = None
    predicts: Prediction = "noise"
    views: int = 0
    frames: int = 1
    stable: bool = False


HUB = "huggingface.co"
GONE = "the original repository is gone; mirrors in the same layout: sd2-community/, Manojb/ (OpenRAIL++)"
CATALOGUE: dict[str, Published] = {
    "sd-2.1-base": Published(Kind.IMAGE, (512, 512), f"stable-diffusion-2-1-base: {GONE}", "stable-diffusion"),
    "sd-2.1": Published(Kind.IMAGE, (512, 512), f"stable-diffusion-2-1: {GONE}", "stable-diffusion", "velocity"),
    "mvdream": Published(
        Kind.MULTI_VIEW,
        (256, 256),
        f"sd-v2.1-base-4view.pt of {HUB}/MVDream/MVDream, or {HUB}/ashawkey/mvdream-sd2.1-diffusers",
        "mvdream",
        views=4,
    ),
    "zero123": Published(
        Kind.IMAGE,
        (256, 256),
        f"105000.ckpt of {HUB}/cvlab/zero123-weights, or {HUB}/bennyguo/zero123-diffusers",
        "zero123",
    ),
    "zero123-xl": Published(
        Kind.IMAGE,
        (256, 256),
        f"zero123-xl.ckpt of zero123.cs.columbia.edu, or {HUB}/bennyguo/zero123-xl-diffusers",
        "zero123",
    ),
    "stable-zero123": Published(
        Kind.IMAGE, (256, 256), f"{HUB}/stabilityai/stable-zero123 (accept its licence)", "zero123", stable=True
    ),
    "zeroscope": Published(Kind.VIDEO, (320, 576), f"{HUB}/cerspense/zeroscope_v2_576w", frames=24),
    "modelscope": Published(Kind.VIDEO, (256, 256), f"{HUB}/damo-vilab/text-to-video-ms-1.7b", frames=16),
    "deepfloyd-if": Published(Kind.IMAGE, (64, 64), f"{HUB}/DeepFloyd/IF-I-XL-v1.0 (accept its licence)"),
}
