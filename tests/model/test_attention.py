"""Attention over more sequences than a kernel's launch takes: split, and equal to the whole in value and gradient."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from viewtime.model import attention
from viewtime.model.attention import attend, use_backend
from viewtime.model.registry import build_network


@pytest.fixture
def small_launch(monkeypatch):
    """A kernel that takes 7 sequences; anything above is refused, as a CUDA launch over its limit is."""
    monkeypatch.setattr(attention, "LARGEST_LAUNCH", 7)
    whole = F.scaled_dot_product_attention
    launches = []

    def kernel(query, key, value, attn_mask=None):
        launches.append(len(query))
        assert len(query) == len(key) == len(value) <= 7, "CUDA error: invalid configuration argument"
        return whole(query, key, value, attn_mask=attn_mask)

    def xformers(query, key, value):  # [N, L, heads, D]
        return kernel(*(tensor.transpose(1, 2) for tensor in (query, key, value))).transpose(1, 2)

    monkeypatch.setattr(F, "scaled_dot_product_attention", kernel)
    monkeypatch.setattr(attention, "require", lambda *_: SimpleNamespace(memory_efficient_attention=xformers))
    return launches


@pytest.mark.parametrize("backend", ["sdpa", "xformers", "reference"])
@pytest.mark.parametrize("rows", [1, 7, 8, 23])
def test_any_number_of_sequences(small_launch, backend, rows):
    tensors = torch.randn(3, rows, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))
    query, key, value = (tensor.clone().requires_grad_() for tensor in tensors)
    result = attend(query, key, value, backend)
    result.square().sum().backward()

    q, k, v = (tensor.clone().requires_grad_() for tensor in tensors)
    expected = torch.softmax(torch.einsum("nhld,nhmd->nhlm", q, k) / 2, dim=-1) @ v
    expected.square().sum().backward()
    torch.testing.assert_close(result, expected)
    for ours, theirs in zip((query, key, value), (q, k, v)):
        torch.testing.assert_close(ours.grad, theirs.grad)
    if backend != "reference":
        assert sum(small_launch) == rows
        assert max(small_launch) == min(rows, 7)


def test_the_limit_leaves_room_for_every_kernel():
    """The y and z axes of a CUDA launch end at 65,535."""
    assert attention.LARGEST_LAUNCH <= 65535


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("mini", {"size": 16, "width": 64, "head_dim": 32, "depth": 2, "frustum_width": 8, "lift_channels": 4}),
        ("4real", {"base": {"width": 32, "depth": 1, "head_dim": 16, "frame_size": [8, 8], "text_width": 8}}),
    ],
)
def test_every_network_calls_attend(small_launch, monkeypatch, name, config):
    """A network that called PyTorch's function itself would send more than 7 sequences, or ignore the backend."""
    network = build_network(name, config)
    V, T, side = 3, 9, 16 if name == "mini" else 8
    channels = network.config.channels
    x = torch.randn(2, V, T, channels, side, side)
    cond = {"known": torch.zeros(2, V, T, dtype=torch.bool), "known_frames": x, "text": torch.randn(2, 3, 8)}
    cond |= {"elevation": torch.zeros(2, V, T), "azimuth": torch.zeros(2, V, T)}
    cond["known"][:, 0] = True
    network(x, torch.full((2, V, T), 0.5), cond)
    assert max(small_launch) == 7
    count = len(small_launch)
    use_backend(network, "reference")
    network(x, torch.full((2, V, T), 0.5), cond)
    assert len(small_launch) == count
