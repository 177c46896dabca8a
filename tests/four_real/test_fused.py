"""Fused view-time attention: the gathered form equals the masked definition in value and gradient."""

from __future__ import annotations

import torch

from viewtime.model.four_real.fused import attend_fused, attend_fused_reference

VIEWS, FRAMES = 3, 4


def qkv():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, VIEWS * FRAMES, 5, 2, 8, generator=generator, requires_grad=True) for _ in range(3)]


def test_fast_form_equals_the_definition():
    results, gradients = [], []
    for attend in (attend_fused(VIEWS, FRAMES), attend_fused_reference(VIEWS, FRAMES)):
        q, k, v = qkv()
        mixed = attend(q, k, v)
        mixed.pow(3).sum().backward()
        results.append(mixed)
        gradients.append([part.grad for part in (q, k, v)])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-5)
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-4)


def test_a_token_sees_its_frame_its_instant_and_its_view_only():
    q, k, v = (part.detach() for part in qkv())
    reference = attend_fused(VIEWS, FRAMES)(q, k, v)
    for view in range(VIEWS):
        for frame in range(FRAMES):
            changed = v.clone()
            changed[:, view * FRAMES + frame] += 1
            seen = (attend_fused(VIEWS, FRAMES)(q, k, changed) - reference).abs().amax(dim=(0, 2, 3, 4)) > 1e-5
            expected = torch.zeros(VIEWS, FRAMES, dtype=torch.bool)
            expected[view], expected[:, frame] = True, True
            assert torch.equal(seen.reshape(VIEWS, FRAMES), expected)
