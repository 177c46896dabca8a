"""The counter of a step against sums by hand, and the table of strategies against what is known of each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from viewtime.errors import UserError
from viewtime.train.cost import step_cost
from viewtime.train.prepare import checkpoint_blocks
from viewtime.train.streams.batches import Batch
from viewtime.train.watch.scale import CARDS, STRATEGIES, Counts, counts_of, memory_table, roofline, state_bytes

B, V, F, C, S, WIDTH, DEPTH = 2, 3, 2, 4, 8, 16, 3
ROWS = B * V * F * S * S


class Stack(nn.Module):
    """Linear layers over pixels, then attention over them without heads."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(C, WIDTH)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(DEPTH)])
        self.leave = nn.Linear(WIDTH, C)

    def forward(self, x, sigma, cond):
        hidden = self.enter(x.movedim(3, -1))
        for block in self.blocks:
            hidden = block(hidden)
        cells = hidden.reshape(B, 1, V * F * S * S, WIDTH)
        cells = nn.functional.scaled_dot_product_attention(cells, cells, cells)
        return self.leave(cells.view_as(hidden)).movedim(-1, 3)


class Reading(Stack):
    def forward(self, x, sigma, cond):
        return super().forward(x, sigma, cond) * float(x.mean())


def batch() -> Batch:
    return Batch(torch.zeros(B, V, F, C, S, S), {}, [])


def test_flops_are_those_of_the_sum_by_hand_and_recomputing_adds_its_own():
    linear = 2 * ROWS * (C * WIDTH + DEPTH * WIDTH * WIDTH + WIDTH * C)
    tokens = V * F * S * S
    attention = B * 2 * (2 * tokens * tokens * WIDTH)
    plain, recomputed = Stack(), Stack()
    checkpoint_blocks(recomputed)
    cost = step_cost(plain, batch(), torch.ones(B), None)
    # Backward: two products a linear layer but the first, whose input needs no gradient; five of attention's, of two.
    assert cost.flops == 3 * linear - 2 * ROWS * C * WIDTH + attention + attention * 5 // 2
    assert cost.forward == linear + attention
    assert 0 < cost.forward_traffic < cost.traffic
    again = step_cost(recomputed, batch(), torch.ones(B), None)
    assert again.flops - cost.flops == 2 * ROWS * DEPTH * WIDTH * WIDTH
    assert again.forward == cost.forward
    assert again.kept < cost.kept
    hidden = 4 * ROWS * WIDTH
    assert cost.kept >= (2 * DEPTH + 2) * hidden  # both sides of each activation; attention's input and output
    assert cost.traffic > 10 * hidden
    assert all(parameter.grad is None for parameter in plain.parameters())


def test_a_network_that_reads_its_results_is_not_counted():
    with pytest.raises(UserError, match="cannot be counted by its shapes alone"):
        step_cost(Reading(), batch(), torch.ones(B), None)


def test_strategies_divide_what_they_are_known_to_divide():
    counts = Counts(total=1000, trained=800, block=10, moments=1600, averages=800)
    sizes = {name: {n: state_bytes(counts, name, n, "bf16") for n in (1, 8, 64)} for name in STRATEGIES}
    assert sizes["ddp"][8] == sizes["ddp"][64] == 4 * (1000 + 1600 + 1600 + 800)
    assert sizes["zero1"][8] == 2 * 1000 + 2 * 800 + 4 * 800 + 4 * (800 + 1600) / 8
    assert sizes["zero1"][8] - sizes["zero2"][8] == 2 * 800 * 7 / 8
    assert sizes["fsdp2"][64] - 40 == 4 * (1000 + 800 + 1600 + 800) / 64
    assert sizes["zero3"][64] - 40 == (4 * (800 + 1600) + 2 * 1800 + 4 * 800) / 64
    table = memory_table(counts, 10**9, "bf16")
    assert table[0].split() == ["GPUs", "8", "16", "64"]
    assert [line.split()[0] for line in table[1:]] == list(STRATEGIES)
    assert float(table[1].split()[1]) == 1.0
    stack = counts_of(Stack(), 0, 2)
    assert stack.block == WIDTH * WIDTH + WIDTH
    assert stack.averages == 2 * stack.trained


def test_the_least_time_is_that_of_the_products():
    cost = step_cost(Stack(), batch(), torch.ones(B), None)
    lines = roofline(cost, "bf16", 4, 3600)
    least = 4 * cost.flops / CARDS["H100"].reduced
    assert f"H100: at least {least * 1e3:.2f} ms" in lines[1]
    assert f"the run at least {least:.2f} h" in lines[1]
