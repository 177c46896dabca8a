"""`viewtime encode SOURCE`: rendered grids into training shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class EncodeConfig:
    """Turn grid folders into WebDataset shards; a run that was cut off continues there."""

    source: Annotated[str, tyro.conf.Positional]
    """Folder with grids (grid.json), at any depth; what `viewtime render` and `viewtime sample` write."""
    out: str = "runs/shards"
    """Folder of the shards, their indices and the plan."""
    kind: Literal["pixels", "latents"] = "pixels"
    """Compressed video for pixel-space models, or VAE latents and CLIP embeddings for latent ones."""
    samples_per_shard: int = 100
    """Grids in each shard."""
    resolution: int | None = None
    """Shrink frames to this shorter side; as rendered where not given."""
    quality: int = 28
    """Of the compressed video: x264's constant rate factor, smaller is better and larger."""
    weights: str | None = None
    """SVD, SV3D or SV4D weights (one file or a diffusers folder) whose VAE and CLIP make the latents."""
    chunk: int = 8
    """Images encoded at a time; changes memory, not results."""
    device: str | None = None
    """Where VAE and CLIP run: cpu, cuda, cuda:1, …; default: cuda where there is one."""
    workers: int = 0
    """Processes, which take this machine's GPUs in turn for latents; 0: one a GPU (or one) for latents, two for pixels;
    with --ray all that the cluster has."""
    ray: str | None = None
    """Address of a Ray cluster (or "local") whose nodes share this file system."""
    max_failed_share: float = 0.05
    """Exit with failure when more than this share of the grids could not be encoded."""
