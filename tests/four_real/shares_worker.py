"""One grid on two processes against one on each: `torchrun --nproc_per_node 2 -m tests.four_real.shares_worker`."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from tests.four_real.conftest import SMALL, stir
from viewtime.errors import UserError
from viewtime.model.four_real.config import GridConfig, UpsamplerConfig
from viewtime.model.four_real.grid import GridModel
from viewtime.model.four_real.upsampler import Upsampler
from viewtime.model.shares import GridShares
from viewtime.train.distributed import check_same_batch, let_go
from viewtime.train.prepare import checkpoint_blocks
from viewtime.train.streams.batches import Batch

VIEWS, FRAMES, TOLERANCE = 4, 6, 1e-5


def loss_and_gradients(network: nn.Module, inputs: tuple) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a loss that weighs every cell differently; gradients averaged over the processes, as DDP does."""
    network.zero_grad()
    out = network(*inputs)
    views, frames = out.shape[1:3]
    weights = torch.linspace(0.1, 1, views * frames).view(1, views, frames, 1, 1, 1)
    loss = (weights * (out - inputs[0]).square()).mean()
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    for gradient in gradients.values():
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    return loss.detach(), gradients


def grid_inputs() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, VIEWS, FRAMES, 3, 8, 16, generator=generator)
    known = torch.zeros(2, VIEWS, FRAMES, dtype=torch.bool)
    known[:, 0], known[:, :, 0] = True, True
    cond = {
        "known": known,
        "known_frames": torch.rand(x.shape, generator=generator) * known[..., None, None, None],
        "text": torch.randn(2, 5, 24, generator=generator),
        "view_order": torch.tensor([[0, 1, 2, 3], [3, 1, 2, 0]]),
    }
    return x, torch.rand(2, VIEWS, FRAMES, generator=generator) * 1000, cond


def upsampler_inputs() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    x, label, cond = grid_inputs()
    return x, label / 1000, {"small": x[..., ::2, ::2].roll(1, dims=0).clone(), "text": cond["text"]}


def check(name: str, network: nn.Module, inputs: tuple, shares: GridShares) -> None:
    """Whole grids on each process, then one grid on both."""
    stir(network).requires_grad_(True)
    loss, gradients = loss_and_gradients(network, inputs)
    network.share_grid(shares)  # type: ignore[operator]
    shared_loss, shared = loss_and_gradients(network, inputs)
    assert abs(float(shared_loss / loss) - 1) < TOLERANCE, (name, float(loss), float(shared_loss))
    assert gradients.keys() == shared.keys()
    assert len(gradients) > 20
    # A bias before a norm has no gradient but rounding: what is smaller is compared with this share of the whole.
    least = 1e-4 * float(sum(g.square().sum() for g in gradients.values())) ** 0.5
    worst = max(float((shared[k] - g).norm() / g.norm().clamp_min(least)) for k, g in gradients.items())
    assert worst < TOLERANCE, (name, worst)
    print(f"{name}: gradients apart by {worst:.1e}")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    pair = GridShares(init_device_mesh("cpu", (2,)))
    for variant in ("soft", "hard", "sequential"):
        model = GridModel(GridConfig(SMALL, variant))
        if variant == "hard":
            checkpoint_blocks(model)
        check(variant, model, grid_inputs(), pair)
    check("upsampler", Upsampler(UpsamplerConfig(replace(SMALL, extra_channels=3), 2)), upsampler_inputs(), pair)
    try:
        model(*(value[:, :3] if isinstance(value, Tensor) else value for value in grid_inputs()))
    except UserError as error:
        print(error)
    grid, _, conditions = grid_inputs()
    check_same_batch(Batch(grid, conditions, ["same"]), pair)
    conditions["known"][0, 3, 3] = dist.get_rank() == 1
    try:
        check_same_batch(Batch(grid, conditions, ["ours"]), pair)
    except UserError as error:
        print(error)
    let_go()
    dist.destroy_process_group()
