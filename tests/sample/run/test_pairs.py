"""Several processes share a grid: guidance's halves, windows that do not wait for each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_models import published_weights

from viewtime.sample.plan.plan import Problem, input_row
from viewtime.sample.plan.plans import make_plan
from viewtime.sample.run.processes import Half, Processes
from viewtime.sample.run.store import CellStore

WORKER = Path(__file__).with_name("pair_worker.py")


def sampled(folder, file, processes):
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(WORKER), str(folder), str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, timeout=300)
    plan = make_plan("sv4d2", Problem(3, 5, 2, 3, input_row(5), inside=False))
    records = [[int(x) for x in (folder / f"rank-{r}.txt").read_text().split()] for r in range(processes)]
    return torch.stack([CellStore(folder, plan).row(view) for view in range(3)]), records


def test_two_processes_evaluate_half_of_each_window_and_make_the_same_grid(tmp_path):
    """And of three the last has nothing to do where windows wait for each other."""
    file = published_weights(tmp_path, "sv4d2-debug")
    alone, ((windows, done, evaluated, steps),) = sampled(tmp_path / "alone", file, 1)
    assert windows == done == 2
    assert evaluated == 2 * 3 * windows
    for world in (2, 3):
        shared, records = sampled(tmp_path / str(world), file, world)
        assert torch.equal(shared, alone)
        half = [windows, 0, evaluated // 2, steps]
        assert records[:2] == [[windows, windows, evaluated // 2, steps], half]
        assert records[2:] == ([[windows, 0, 0, 0]] if world == 3 else [])


@pytest.mark.parametrize(
    ("world", "windows", "teams"),
    [(1, 1, 1), (2, 1, 1), (2, 2, 2), (3, 1, 1), (4, 2, 2), (4, 3, 4), (5, 2, 2), (8, 1, 4)],
)
def test_processes_pair_where_there_are_two_for_each_window(world, windows, teams):
    members = [
        Processes(rank, world, pair=Half(rank % 2, None) if rank // 2 < world // 2 else None).share(windows, True)
        for rank in range(world)
    ]
    assert {count for count, _, _ in members} == {teams}
    own = [team for _, team, _ in members]
    assert own == (list(range(world)) if teams == world else [rank // 2 for rank in range(world)])
    paired = teams < world or world == 1
    assert all((half is not None) == (paired and rank // 2 < world // 2) for rank, (_, _, half) in enumerate(members))
    assert all(Processes(r, world, pair=Half(0, None)).share(windows, False) == (world, r, None) for r in range(world))


def test_dense_windows_of_the_apart_plan_are_one_wave():
    """SV4D's demonstration, 8 views × 21 frames: the published plan is a chain of six, this one is two waves."""
    problem = Problem(9, 21, 8, 5, input_row(21) | {(view, 0) for view in range(9)}, inside=False)
    chain, apart = make_plan("sv4d", problem), make_plan("sv4d-apart", problem)
    assert [len(wave) for wave in chain.waves] == [1] * 6
    assert [len(wave) for wave in apart.waves] == [1, 5]
    (anchors, *dense) = apart.windows
    assert anchors.frames == (4, 8, 12, 16, 20)
    for window in dense:
        assert {frame for _, frame in window.sampled} == set(window.frames[1:-1])
        assert [d.conditions[-1][1] for d in window.directions] == [window.frames[-1], window.frames[0]]
    assert all(apart.final_producer((view, 8)) == 0 for view in range(1, 9))
