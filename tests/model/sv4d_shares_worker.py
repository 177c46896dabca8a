"""SV4D's grids on two processes against one on each: run by torchrun, `-m tests.model.sv4d_shares_worker`."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from tests.four_real.shares_worker import check
from viewtime.errors import UserError
from viewtime.model.published.presets import load_model_config
from viewtime.model.shares import GridShares
from viewtime.model.sv4d.config import UNetConfig
from viewtime.model.sv4d.unet import VideoUNet
from viewtime.train.distributed import let_go

VIEWS, FRAMES, HEIGHT, WIDTH = 4, 3, 6, 10  # at the lower level 15 pixels, at both levels 3 frames: uneven parts
PRESETS = ("sv4d-debug", "sv4d2-debug", "sv4d2-8views-debug", "sv3d-p-debug")


def inputs(config: UNetConfig, views: int = VIEWS, frames: int = FRAMES) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(x, noise label, conditions) of two grids, whose cells all differ in what the network is told."""
    generator = torch.Generator().manual_seed(1)
    frames = 1 if config.axes == "view" else frames

    def draw(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64)

    cond = {
        "concat": draw(1, frames, 4, HEIGHT, WIDTH),
        "vector": draw(views, frames, config.vector_dim),
        "image_tokens": draw(1, frames, config.context_dim),
        "reference_views": draw(views, 4, HEIGHT, WIDTH),
    }
    if config.axes == "view":
        cond["image_only"] = torch.tensor([[False, True, False, False], [True, False, False, True]])[..., None]
    return draw(views, frames, 4, HEIGHT, WIDTH), draw(views, frames), cond


if __name__ == "__main__":
    dist.init_process_group("gloo")
    shares = GridShares(init_device_mesh("cpu", (dist.get_world_size(),)))
    networks = {preset: load_model_config(preset).network for preset in PRESETS}
    networks["raster"] = replace(networks["sv4d2-debug"], view_attention="raster")
    for name, config in networks.items():
        torch.manual_seed(0)
        # In double precision: in single, an input changed in its last digit moves gradients by more than 1e-5 too.
        network = VideoUNet(config, gradient_checkpointing=name == "sv4d2-debug").double()
        check(name, network, inputs(config), shares)
    for wrong in (inputs(config, views=3), inputs(config, frames=1)):
        try:
            network(*wrong)
        except UserError as error:
            print(error)
    let_go()
    dist.destroy_process_group()
