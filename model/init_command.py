"""`viewtime init`: SV4D's weights before training, out of SVD-xt and SV3D_p (SV4D, section 3.1)."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from viewtime.configs.schema.init import InitConfig
from viewtime.errors import UserError
from viewtime.log import log
from viewtime.model.published.identify import file_config, identify
from viewtime.model.published.presets import load_model_config
from viewtime.model.published.published_keys import used_names
from viewtime.model.published.video_config import VideoModelConfig
from viewtime.model.published.weight_sources import UNUSED_PREFIX, Source, sources
from viewtime.weights import TensorInfo, write_stream

FROM_SVD = ("frame", "frame_embed", "frame_blend")


def run(config: InitConfig) -> list[Path]:
    """Read both files, write the initial weights as a viewtime file.

    Raises:
        UserError: a file is of another model, or the two do not fit the preset.
    """
    target = load_model_config(config.model)
    if target.family != "sv4d":
        raise UserError(f"{config.model} is not an SV4D model; use sv4d, sv4d2 or sv4d2-8views")
    if config.out.suffix != ".safetensors":
        raise UserError(f"{config.out}: give a name that ends in .safetensors")
    svd, sv3d = identify(config.svd), identify(config.sv3d)
    for found, family, path in ((svd, "svd", config.svd), (sv3d, "sv3d", config.sv3d)):
        if found.config.family != family:
            raise UserError(f"{path} holds {found.config.name}; an {family.upper()} file is needed here")
    tensors = initial_weights(target, sources(config.svd, svd), sources(config.sv3d, sv3d), config.seed)
    described = {name: source.info for name, source in tensors.items()}
    write_stream(config.out, described, (source.read() for source in tensors.values()), file_config(target))
    return [config.out]


def initial_weights(
    target: VideoModelConfig, svd: dict[str, Source], sv3d: dict[str, Source], seed: int = 0
) -> dict[str, Source]:
    """Our name -> tensor of the whole SV4D model.

    Frame attention with its embedding (and blend, where it has its own) is SVD's. Its cross-attention reads latents
    of 4 channels instead of an image embedding: those two matrices start at zero, so that training begins with no
    context. Everything else is SV3D's; both VAE encoders are its one encoder. SV4D 2.0's view embedding has a wider
    input than SV3D's: its first layer is random and its last one zero.

    Raises:
        UserError: a tensor is in neither file, or has another shape.
    """
    generator = torch.Generator().manual_seed(seed)
    result: dict[str, Source] = {}
    fresh: list[str] = []
    for name, (_, shape) in used_names(target).items():
        source = _origin(name, svd, sv3d)
        if source is None:
            raise UserError(f"neither file has the tensor for {name}; give SVD-xt and SV3D_p")
        new = _fresh(name, shape, source, target, generator)
        if new is not None:
            fresh.append(name)
        elif source.info.shape != shape:
            raise UserError(
                f"{name} is {list(source.info.shape)} in its file; {target.name} needs {list(shape)}: "
                "give the files of SVD-xt and SV3D_p (not SV3D_u)"
            )
        result[name] = new or source
    log.info("%d tensors from SVD and SV3D, %d new", len(result) - len(fresh), len(fresh))
    assert not any(name.startswith(UNUSED_PREFIX) for name in result)
    return result


def _origin(name: str, svd: dict[str, Source], sv3d: dict[str, Source]) -> Source | None:
    part, _, rest = name.partition(".")
    if part == "view_encoder":
        return sv3d.get(f"frame_encoder.{rest}")
    pieces = name.split(".")
    frame_attention = "attention" in pieces and pieces[pieces.index("attention") + 1] in FROM_SVD
    return svd.get(name) if frame_attention else sv3d.get(name)


def _fresh(
    name: str, shape: tuple[int, ...], source: Source, target: VideoModelConfig, generator: torch.Generator
) -> Source | None:
    """A new tensor where the origin's cannot be used; None where it can."""
    dtype = source.info.dtype
    if ".frame.cross_attention.key." in name or ".frame.cross_attention.value." in name:
        return _constant(torch.zeros(shape, dtype=dtype))
    if target.network.view_embedding == "conditioning":
        if ".view_embed.contract." in name:
            return _constant(torch.zeros(shape, dtype=dtype))
        if ".view_embed.expand.weight" in name:
            bound = 1 / math.sqrt(shape[1])
            return _constant(((2 * torch.rand(shape, generator=generator) - 1) * bound).to(dtype))
    return None


def _constant(tensor: torch.Tensor) -> Source:
    data = tensor.contiguous().view(torch.uint8).numpy().tobytes()
    return Source(TensorInfo(tensor.dtype, tuple(tensor.shape)), lambda: data)
