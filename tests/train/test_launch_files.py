"""Every file of configs/launch is one that its program accepts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from .conftest import ROOT

FOLDER = ROOT / "configs" / "launch"
YAML = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.stem)
def test_accelerate_takes_the_file(path: Path):
    """Unknown keys, a missing DeepSpeed file or a strategy without settings would show here."""
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    kind = config.distributed_type.value.upper()
    expected = {"ddp": "MULTI_GPU", "zero": "DEEPSPEED", "fsdp": "FSDP", "gpu1": "NO"}
    assert kind == next(value for name, value in expected.items() if name in path.stem)
    assert config.num_processes == {"gpu1": 1, "cpu2": 2, "gpu8": 8}[path.stem.partition("-")[0]]
    if kind == "FSDP":
        assert (config.fsdp_config or {})["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        stage = int(path.stem[-1])
        plugin = config.deepspeed_config or {}
        file = plugin.get("deepspeed_config_file")
        settings = json.loads((ROOT / file).read_text())["zero_optimization"] if file else None
        assert (settings["stage"] if settings else plugin["zero_stage"]) == stage


def test_the_readme_names_every_file():
    text = (FOLDER / "README.md").read_text()
    assert [path.name for path in FOLDER.iterdir() if path.name not in (*text.split("`"), "README.md")] == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(path: Path):
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
