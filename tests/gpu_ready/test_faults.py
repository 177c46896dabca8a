"""Each check of the fake GPU catches a planted fault, and clean work has none."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from benchmarks.fake_card import fake_card
from benchmarks.fake_gpu import fake_gpu


def long_attention(x):
    rows = x.expand(70000, 1, 4, 8)
    return F.scaled_dot_product_attention(rows, rows, rows)


PLANTED = {
    "mixed device": [lambda x: torch.arange(4)[x.long()[0]]],
    "float64": [lambda x: x * torch.ones(1, dtype=torch.float64, device="cuda"), lambda x: x.double().sum()],
    "synchronisation": [lambda x: x[x > 0], lambda x: x.cpu(), lambda x: x.nonzero()],
    "launch": [long_attention],
    "index": [lambda x: x.new_zeros(2**16, 2**15) + 1],
    "upload": [lambda x: x + torch.ones(8).to("cuda")],
}


@pytest.mark.parametrize(("kind", "fault"), [(kind, fault) for kind, faults in PLANTED.items() for fault in faults])
def test_planted_faults(kind, fault):
    with fake_gpu() as gpu:
        x = torch.zeros(4, 8, device="cuda", dtype=torch.float16)
        with gpu.record() as run:
            try:
                fault(x)
            except Exception as error:  # fake tensors stop at some faults by themselves
                assert type(error).__module__.startswith("torch") or isinstance(error, RuntimeError)  # noqa: PT017
    assert run.faults[0].kind == kind, run.faults
    assert "test_faults.py" in run.faults[0].place


def test_clean_work_is_counted():
    """A product of [4, 8] and [8, 16] in half precision: 2 · 4 · 8 · 16 FLOPs, three tensors moved."""
    with fake_gpu() as gpu:
        a = torch.zeros(4, 8, device="cuda", dtype=torch.float16)
        b = torch.zeros(8, 16, device="cuda", dtype=torch.float16)
        with gpu.record() as run:
            product = a @ b
            product = product.T.contiguous()
        assert gpu.memory.live >= 512
    assert not run.faults
    assert (run.kernels, run.flops) == (2, 1024)
    assert run.bytes == 2 * (4 * 8 + 8 * 16 + 4 * 16) + 2 * 2 * 4 * 16
    del product


def test_peak_memory_is_what_lives_at_once():
    with fake_gpu() as gpu:
        x = torch.zeros(2**20, device="cuda")
        with gpu.record() as run:
            y = torch.ones_like(x)
            y = y + 1  # two at once, then one
            del y
            z = torch.ones_like(x)
        assert run.peak == 2 * 4 * 2**20
        del z


class Block(torch.nn.Module):
    """A layer of a network that a step trains."""

    def __init__(self, plant=None):
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
        self.plant = plant or (lambda x: x)

    def forward(self, x):
        return self.plant(self.second(self.first(x).relu()))


def step(plant=None, recompute=False, blocks=8):
    """Cost of loss, gradient and optimiser of some blocks on the fake card, under autocast."""
    with fake_card() as card:
        with torch.device("meta"):
            network = torch.nn.Sequential(*[Block(plant) for _ in range(blocks)])
        network = network.to("cuda")
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        x = torch.randn(4096, 64, device="cuda")
        for _ in range(2):
            with card.record() as cost:
                with torch.autocast("cuda", torch.bfloat16):
                    for block in network:
                        x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
                x.float().square().mean().backward()
                optimizer.step()
            x = x.detach()
    return cost


PLANTED_IN_A_STEP = {
    "float64": lambda x: x * torch.ones(64, dtype=torch.float64, device="cuda"),
    "synchronisation": lambda x: x * float(x.detach().float().sum()),
    "launch": lambda x: long_attention(x[:4, :8]).sum() + x,
    "upload": lambda x: x + torch.ones(64).to("cuda"),
}


@pytest.mark.parametrize("kind", PLANTED_IN_A_STEP)
def test_faults_planted_in_a_training_step(kind):
    faults = step(PLANTED_IN_A_STEP[kind], blocks=1).faults
    assert faults
    assert faults[0].kind == kind, faults
    assert "test_faults.py" in faults[0].place


def test_a_step_with_a_tensor_of_the_host_stops():
    with pytest.raises(RuntimeError, match="same device"):
        step(lambda x: x + torch.ones(64), blocks=1)


def test_a_clean_step_is_counted():
    """A product forward, two backward; weights, gradients and two moments in float32; activations in half precision."""
    cost, recomputed = step(), step(recompute=True)
    assert not cost.faults
    assert not recomputed.faults
    product, weights, activation = 2 * 4096 * 64 * 64, 16 * (64 * 64 + 64) * 4, 4096 * 64 * 2
    assert cost.flops == (3 * 16 - 1) * product  # the first layer's input needs no gradient
    assert recomputed.flops == cost.flops + 8 * product  # what the second layer of a block saves, the first makes again
    assert cost.peak > 4 * weights + 16 * activation
    assert recomputed.peak < cost.peak - 6 * activation
    assert cost.bytes > 2 * 16 * activation


def test_autocast_keeps_what_cuda_keeps_in_float32():
    with fake_card():
        x = torch.randn(2, 64, device="cuda")
        layer, norm = torch.nn.Linear(64, 64).to("cuda"), torch.nn.LayerNorm(64).to("cuda")
        with torch.autocast("cuda", torch.float16):
            assert layer(x).dtype == torch.float16
            assert norm(layer(x)).dtype == torch.float32
            assert layer(x).softmax(-1).dtype == torch.float32
        assert layer(x).dtype == torch.float32
