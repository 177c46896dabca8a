"""`--quality.device`: which GPU Cycles gets, and one line where there is none."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_gltf import moving

from viewtime import render_objaverse
from viewtime.configs.schema.render import Quality, RenderConfig
from viewtime.errors import UserError
from viewtime.render_objaverse.blender import Blender
from viewtime.render_objaverse.command import run


class Preferences(SimpleNamespace):
    """Cycles' preferences on a machine with two NVIDIA cards."""

    def get_device_types(self, _):
        return [("NONE", "None", "", 0), ("CUDA", "CUDA", "", 1), ("OPTIX", "OptiX", "", 3)]

    def get_devices_for_type(self, name):
        return [device for device in self.devices if device.type in (name, "CPU")]


@pytest.fixture
def machine(monkeypatch):
    kinds = [("H100 a", "CUDA"), ("H100 b", "CUDA"), ("EPYC", "CPU")]
    devices = [SimpleNamespace(name=name, type=kind, use=True) for name, kind in kinds]
    settings = Preferences(devices=devices, compute_device_type="NONE")
    context = SimpleNamespace(
        scene=SimpleNamespace(cycles=SimpleNamespace(device="CPU", denoising_use_gpu=False)),
        preferences=SimpleNamespace(addons={"cycles": SimpleNamespace(preferences=settings)}),
    )
    monkeypatch.syspath_prepend(str(Path(render_objaverse.__file__).parent))
    return importlib.import_module("blender_worker").use_device, SimpleNamespace(context=context)


@pytest.mark.parametrize(("number", "name"), [(0, "H100 a"), (1, "H100 b"), (4, "H100 a")])
def test_workers_take_the_cards_in_turn(machine, number: int, name: str):
    use_device, bpy = machine
    assert use_device(bpy, "cuda", number) == name
    settings = bpy.context.preferences.addons["cycles"].preferences
    assert settings.compute_device_type == "CUDA"
    assert [device.name for device in settings.devices if device.use] == [name]
    assert bpy.context.scene.cycles.device == "GPU"
    use_device(bpy, "cpu", number)
    assert bpy.context.scene.cycles.device == "CPU"


def test_a_kind_that_is_not_there_is_told_with_those_that_are(machine):
    use_device, bpy = machine
    with pytest.raises(RuntimeError, match=r"no optix device here; it finds cuda \(H100 a, H100 b\), cpu"):
        use_device(bpy, "optix", 0)


needs_blender = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")


@needs_blender
def test_blender_itself_names_the_device_that_is_missing():
    with Blender(device="cpu") as blender:
        assert blender.ask({"op": "device", **blender.device})["name"] == "cpu"
    with pytest.raises(UserError, match=r"--quality.device metal: Cycles finds no metal device here; it finds .*cpu"):
        Blender(device="metal")


@pytest.mark.slow
@needs_blender
def test_the_command_ends_with_that_line_before_it_renders(tmp_path):
    (tmp_path / "assets").mkdir()
    moving(tmp_path / "assets" / "box.glb")
    config = RenderConfig(tmp_path / "assets", tmp_path / "out", quality=Quality(device="metal"))
    with pytest.raises(UserError, match="Cycles finds no metal device here"):
        run(config)
