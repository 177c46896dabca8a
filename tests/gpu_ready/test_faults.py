"""Each check of the fake GPU catches a planted fault, and clean work has none."""

import pytest
import torch
import torch.nn.functional as F

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
