"""The extras pull nothing where it cannot be installed."""

import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
# Packages without a file for a machine, though pip would look for one.
NOT_THERE = {
    ("linux", "x86_64"): set(),
    ("linux", "aarch64"): {"bpy", "decord", "xformers"},
    ("darwin", "arm64"): {"decord", "deepspeed", "gsplat", "xformers"},
    ("darwin", "x86_64"): {"decord", "deepspeed", "gsplat", "xformers"},
}


@pytest.mark.parametrize(("system", "machine"), NOT_THERE)
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_extras_fit_the_machine(system, machine, python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: parts for name, parts in project["optional-dependencies"].items() if name != "all"}
    assert set(project["optional-dependencies"]["all"][0].partition("[")[2].rstrip("]").split(",")) == set(extras) - {
        "dev"
    }
    place = {**default_environment(), "sys_platform": system, "platform_machine": machine, "python_version": python}
    wanted = [*project["dependencies"], *(part for parts in extras.values() for part in parts)]
    requirements = [Requirement(text) for text in wanted]
    pulled = {found.name for found in requirements if found.marker is None or found.marker.evaluate(place)}
    absent = NOT_THERE[system, machine] | ({"bpy"} if python == "3.12" else set())
    assert not pulled & absent
    everything = {"bpy", "decord", "deepspeed", "gsplat", "xformers", "gradio", "torch"}
    assert everything - pulled == absent
