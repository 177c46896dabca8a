"""A load takes host memory for the target and little more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from viewtime.weights import save_weights

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
MEBI = 1 << 20
LOAD = """
import re, sys, json, torch
from torch import nn
from viewtime.weights import load_weights

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

def build():
    return nn.ModuleDict({str(i): nn.Linear(1024, 4096, bias=False) for i in range(16)})

torch.zeros(1).to(torch.bfloat16)
before = peak()
load_weights(build, sys.argv[1], dtype={"F32": None, "BF16": torch.bfloat16}[sys.argv[2]])
print(json.dumps(peak() - before))
"""


def test_peak_memory_of_a_load(tmp_path):
    tensors = {f"{index}.weight": torch.zeros(4096, 1024) for index in range(16)}
    path = save_weights(tmp_path / "w.safetensors", tensors, {})
    size = path.stat().st_size
    assert size > 256 * MEBI
    for dtype, limit in (("F32", 1.2), ("BF16", 1.2)):
        done = subprocess.run([sys.executable, "-c", LOAD, str(path), dtype], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) < limit * size
        assert json.loads(done.stdout) > 0.4 * size
