"""How much device memory a step of a guidance takes, on tensors without values: no device, no weights are needed.

Every storage that an operation makes is counted until it is freed, so the peak is that of the tensors; a real run adds
the CUDA context (about 0.5 GB), workspaces of the libraries, and what the allocator rounds up.

Memory is counted on torch's "meta" device. A step on pretended CUDA tensors finds tensors on the wrong device, but
goes forward only: torch's backward asks for a real CUDA context.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnF
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from viewtime.cameras import regular_orbit
from viewtime.errors import require
from viewtime.model.conditioners.vision_transformer import VisionTransformer

from .guidance.base import Guidance, NoiseSchedule, Rendered, SeededDraws
from .guidance.codec import Autoencoder, Pixels
from .guidance.lora_copy import LoraCopy
from .guidance.multi_view import add_camera_embedding, join_views
from .guidance.prompts import TextPrompt
from .guidance.zero123 import ReferencePrompt, pose_projection
from .noise import cosine_schedule, scaled_linear_schedule
from .objectives import Objective, Vsd
from .published import architectures
from .published.catalogue import CATALOGUE
from .published.open import GuidanceOptions, NetworkParts, assemble
from .teacher import Teacher

GIB = 2**30


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive on a device without values, and their peak."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor) and tensor.device.type == self.device:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._known.pop(key, 0)


@dataclass(frozen=True)
class StepMemory:
    """Bytes on the device: of the weights alone, and at the peak of a step forward and backward."""

    weights: int
    peak: int

    def __str__(self) -> str:
        return f"{self.peak / GIB:.1f} GiB, of them weights {self.weights / GIB:.1f}"


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, **others: Any,
) -> Tensor:  # fmt: skip
    """What CUDA runs: attention without the matrix of all pairs. Pretended tensors alone would choose the other."""
    del others
    if attn_mask is not None:
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2]).to(query.dtype)
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, keep, dropout_p, is_causal, scale=scale
    )[0]


@contextmanager
def pretended(device: str, dtype: torch.dtype) -> Iterator[LiveBytes]:
    """Tensors made on "meta" or "cuda" in here have shapes and dtypes but no values; new ones are of `dtype`."""
    before, attention = torch.get_default_dtype(), nnF.scaled_dot_product_attention
    try:
        torch.set_default_dtype(dtype)
        nnF.scaled_dot_product_attention = _fused_attention
        fake = FakeTensorMode(allow_non_fake_inputs=True) if device == "cuda" else nullcontext()
        with fake, LiveBytes(device) as live:
            yield live
    finally:
        torch.set_default_dtype(before)
        nnF.scaled_dot_product_attention = attention


def pretended_guidance(
    name: str, schedule: NoiseSchedule, options: GuidanceOptions | None = None, device: str = "meta"
) -> Guidance:
    """A published guidance at full size without its weights, inside `pretended`.

    Args:
        schedule: made outside of it, with values.
    """
    options, published = options or GuidanceOptions(), CATALOGUE[name]
    diffusers: Any = require("diffusers", "train")
    image_encoder, projection = None, None
    with torch.device(device):
        if name == "deepfloyd-if":
            network = _frozen(diffusers.UNet2DConditionModel(**architectures.DEEPFLOYD_XL))
            return assemble(name, NetworkParts(network, schedule, Pixels()), options)
        if published.form is None:
            network = diffusers.UNet3DConditionModel(**architectures.VIDEO)
        elif published.form == "zero123":
            network = diffusers.UNet2DConditionModel(**architectures.ZERO123)
            image_encoder = _frozen(VisionTransformer(architectures.CLIP_IMAGE))
            projection = _frozen(pose_projection(architectures.CLIP_IMAGE.out_dim))
        else:
            network = diffusers.UNet2DConditionModel(**architectures.STABLE_DIFFUSION_2)
        if published.views:
            add_camera_embedding(network)
            join_views(network, published.views)
        autoencoder = _frozen(diffusers.AutoencoderKL(**architectures.AUTOENCODER))
    codec = Autoencoder(
        autoencoder, chunk=options.chunk, recompute=options.recompute, frames_with_gradient=options.frames_with_gradient
    )
    parts = NetworkParts(_frozen(network), schedule, codec, published.predicts, image_encoder, projection)
    return assemble(name, parts, options)


@dataclass(frozen=True)
class PretendedStep:
    """A teacher of full size without weights, and a render that it looks at."""

    teacher: Teacher
    rendered: Rendered

    def losses(self) -> dict[str, Tensor]:
        """The losses of one step."""
        return self.teacher.losses(self.rendered, 0, PretendedDraws(0))


def step_memory(
    name: str,
    objective: Objective,
    batch: tuple[int, int, int],
    render_size: tuple[int, int],
    dtype: torch.dtype = torch.float16,
    options: GuidanceOptions | None = None,
    *,
    shared_copy: bool = False,
) -> StepMemory:
    """Memory of one teacher's step, forward and backward to the render; the field and its renderer come on top.

    Args:
        name: of `CATALOGUE`; objective: see `Teacher`; with `Vsd` the copy's carrier counts too, unless it is shared.
        batch: (scenes, views, frames); render_size: (height, width) in pixels.
        dtype: of the guidance's weights.
    """
    with pretended("meta", dtype) as live:
        step = pretended_step(name, objective, batch, render_size, "meta", options, shared_copy=shared_copy)
        weights = live.live
        live.peak = live.live
        sum(step.losses().values(), torch.zeros((), device="meta")).backward()
        assert step.rendered.color.grad is not None
    return StepMemory(weights, live.peak)


def pretended_step(
    name: str,
    objective: Objective,
    batch: tuple[int, int, int],
    render_size: tuple[int, int],
    device: str,
    options: GuidanceOptions | None = None,
    *,
    shared_copy: bool = False,
) -> PretendedStep:
    """What `step_memory` counts, inside `pretended`; the arguments are the same."""
    with unset_fake_temporarily():  # these have values
        schedule = cosine_schedule() if name == "deepfloyd-if" else scaled_linear_schedule()
        cameras = (regular_orbit(batch[1], batch[2]),) * batch[0]
    guidance = pretended_guidance(name, schedule, options, device)
    copy = None
    if isinstance(objective, Vsd):
        copy = _copy(guidance if shared_copy else None, schedule, device)
    color = torch.rand(*batch, 3, *render_size, device=device, dtype=torch.float32, requires_grad=True)
    opacity = torch.rand(*batch, 1, *render_size, device=device, dtype=torch.float32)
    teacher = Teacher(guidance, _prompt(guidance, device), objective, copy)
    return PretendedStep(teacher, Rendered(color, opacity, color, cameras))


def _copy(shared: Any, schedule: NoiseSchedule, device: str) -> LoraCopy:
    """VSD's copy on the guidance's own network, or on one of its own."""
    if shared is not None:
        return LoraCopy(shared.network, schedule, shared.predicts, shared=True)
    with unset_fake_temporarily():  # peft moves what it makes, which pretended CUDA tensors refuse
        carrier: Any = pretended_guidance("sd-2.1", schedule)
        copy = LoraCopy(carrier.network, schedule, carrier.predicts)
    if device != "meta":
        for module in [*copy.network.modules(), *copy.camera.modules()]:
            for name, value in list(module.named_parameters(recurse=False)):
                there = torch.empty(value.shape, dtype=value.dtype, device=device)
                setattr(module, name, nn.Parameter(there, requires_grad=value.requires_grad))
    return copy


class PretendedDraws(SeededDraws):
    """Draws without values where values are not looked at."""

    def normal(self, name: str, like: Tensor) -> Tensor:
        """See `Draws`."""
        del name
        return torch.randn(like.shape, device=like.device, dtype=like.dtype)

    def timesteps(self, name: str, count: int, low: int, high: int) -> Tensor:
        """See `Draws`."""
        del name
        return torch.tensor([(low + high) // 2] * count)

    def uniform(self, name: str, count: int) -> Tensor:
        """See `Draws`."""
        del name
        return torch.tensor([0.5] * count, dtype=torch.float64)


def _frozen(module: nn.Module) -> Any:
    return module.eval().requires_grad_(False)


def _prompt(guidance: Guidance, device: str) -> Any:
    """A prompt of the right shape."""
    config = guidance.network.config  # type: ignore[attr-defined]
    if guidance.traits.wants_reference:
        embedding = torch.zeros(architectures.CLIP_IMAGE.out_dim, device=device)
        return ReferencePrompt("", embedding, torch.zeros(guidance.traits.latent, device=device), 0.0, 0.0, 3.8)
    width = config.get("encoder_hid_dim") or config.cross_attention_dim
    plain, directions, unconditional = (torch.zeros(*rows, 77, width, device=device) for rows in ((), (4,), ()))
    return TextPrompt("", "", plain, directions, unconditional)
