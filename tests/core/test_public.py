"""The names that `from viewtime import …` promises: importable, lazy, and with examples that run."""

import doctest
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import viewtime
from viewtime.cameras import regular_orbit
from viewtime.grid import FrameGrid

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["Cameras", "FrameGrid", "Pipeline", "evaluate", "load_asset", "reconstruct"]


def moving_block() -> FrameGrid:
    """A red block that three cameras see, over three frames."""
    import torch

    frames = torch.zeros(3, 3, 4, 32, 32)
    frames[:, :, 0] = 1.0
    for frame in range(3):
        frames[:, frame, :, 10 + frame : 22 + frame, 10:22] = torch.tensor([1.0, 0.0, 0.0, 1.0])[:, None, None]
    return FrameGrid(frames, torch.zeros(3, 3, dtype=torch.bool), regular_orbit(3, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples run: a video and, for `load_asset`, the asset that `reconstruct`'s example wrote."""
    place = tmp_path_factory.mktemp("examples")
    shutil.copy(ROOT / "examples/knight.mp4", place / "in.mp4")
    return place


def test_the_list_is_the_promise():
    assert set(NAMES) == set(viewtime.__all__) - {"__version__"}
    assert set(NAMES) <= set(dir(viewtime))
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        viewtime.Pipelin  # noqa: B018


@pytest.mark.parametrize("name", [name for name in NAMES if name != "load_asset"] + ["load_asset"])
def test_examples_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    thing = getattr(viewtime, name)
    names = {**vars(sys.modules[thing.__module__]), "grid": moving_block(), "regular_orbit": regular_orbit}
    found = doctest.DocTestFinder(recurse=False).find(thing, name, globs=names)
    examples = [example for test in found for example in test.examples]
    assert examples, f"{name} has no example"
    assert inspect.getdoc(thing)
    report: list[str] = []
    result = doctest.DocTestRunner().run(found[0], out=report.append)
    assert result.failed == 0, "".join(report)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, viewtime; print(sorted({'torch', 'numpy', 'tyro'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
    assert (ROOT / "viewtime/py.typed").is_file()


@pytest.mark.parametrize(
    ("own", "wanted"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_waiting_threads_soon_sleep_unless_the_user_said_otherwise(own, wanted):
    code = "import viewtime, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    bare = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare | own, capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == [wanted]


def test_a_checkout_that_is_not_installed_finds_its_folders():
    assert {str(ROOT), str(ROOT / "tools")} <= set(viewtime.__path__)
