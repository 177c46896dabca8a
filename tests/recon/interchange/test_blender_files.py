"""FBX, USD and Alembic: written through Blender, read by usd-core and by Blender's importers of a later process."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from scenes import ball

from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.errors import UserError
from viewtime.recon.interchange import blender
from viewtime.recon.interchange.blender import write_through_blender
from viewtime.recon.surface.atlas import unfolded

needs_blender = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")
IMPORT = """
import json, sys, bpy
kind, path = sys.argv[1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.scene.render.fps = 10
{"fbx": lambda: bpy.ops.import_scene.fbx(filepath=path, anim_offset=0.0),
 "alembic": lambda: bpy.ops.wm.alembic_import(filepath=path, as_background_job=False),
 "usd": lambda: bpy.ops.wm.usd_import(filepath=path)}[kind]()
middles, item = [], next(item for item in bpy.context.scene.objects if item.type == "MESH")
for frame in range(3):
    bpy.context.scene.frame_set(frame)
    shown = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
    points = [shown.matrix_world @ vertex.co for vertex in shown.data.vertices]
    middles.append([sum(point[axis] for point in points) / len(points) for axis in range(3)])
print("RESULT" + json.dumps({"middles": middles, "uvs": len(item.data.uv_layers), "points": len(item.data.vertices),
      "bones": sum(len(one.data.bones) for one in bpy.context.scene.objects if one.type == "ARMATURE"),
      "images": len(bpy.data.images)}))
"""


def moving():
    """A textured ball that moves by 0.1 along x and frame."""
    mesh = ball(3, 2)
    texture = unfolded(mesh, 64)
    return dataclasses.replace(mesh, texture=dataclasses.replace(texture, picture=texture.picture + np.uint8(90)))


def reopened(kind, path):
    done = subprocess.run([sys.executable, "-c", IMPORT, kind, str(path)], capture_output=True, text=True, timeout=200)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-2000:]
    return json.loads(lines[0].removeprefix("RESULT"))


@needs_blender
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "animation"), [("fbx", "morphs"), ("fbx", "skin"), ("alembic", "morphs")])
def test_blender_reads_every_frame_again(kind, animation, tmp_path):
    path = write_through_blender(moving(), tmp_path, kind, MeshOptions(animation=animation, joints=4))
    again = reopened(kind, path)
    np.testing.assert_allclose(np.diff(again["middles"], axis=0), [[0.1, 0, 0]] * 2, atol=1e-3)
    np.testing.assert_allclose(again["middles"][0], [0, 0, 0], atol=0.02)
    assert again["uvs"] == 1
    assert (again["bones"] == 4) == (animation == "skin")


@needs_blender
@pytest.mark.parametrize("kind", ["usdz", "usd"])
def test_usd_core_reads_every_frame_and_the_texture(kind, tmp_path):
    pxr = pytest.importorskip("pxr", reason="usd-core is not installed")
    from pxr import Usd, UsdGeom, UsdShade

    path = write_through_blender(moving(), tmp_path, kind, MeshOptions())
    stage = Usd.Stage.Open(str(path))
    assert pxr is not None
    meshes = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    (prim,) = meshes
    points = UsdGeom.Mesh(prim).GetPointsAttr()
    assert stage.GetTimeCodesPerSecond() == 10
    place = UsdGeom.Xformable(prim)
    middles = []
    for time in range(3):
        matrix = np.array(place.ComputeLocalToWorldTransform(time))
        local = np.array(points.Get(time))
        middles.append((local @ matrix[:3, :3] + matrix[3, :3]).mean(axis=0))
    np.testing.assert_allclose(np.diff(middles, axis=0), [[0.1, 0, 0]] * 2, atol=1e-4)
    assert UsdGeom.GetStageUpAxis(stage) == "Z"
    primvars = {primvar.GetPrimvarName() for primvar in UsdGeom.PrimvarsAPI(prim).GetPrimvarsWithValues()}
    assert primvars & {"st", "UVMap"}
    shaders = [UsdShade.Shader(item) for item in stage.Traverse() if item.IsA(UsdShade.Shader)]
    assert "UsdUVTexture" in {shader.GetIdAttr().Get() for shader in shaders}


def test_without_blender_one_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs bpy, which is not installed: pip install 'viewtime\[render\]'"):
        write_through_blender(ball(2), tmp_path, "fbx", MeshOptions())


@needs_blender
def test_what_blender_says_is_told(tmp_path, monkeypatch):
    broken = tmp_path / "worker.py"
    broken.write_text("raise SystemExit('no such exporter')")
    monkeypatch.setattr(blender, "WORKER", broken)
    with pytest.raises(UserError, match=r"could not write .*asset\.fbx: no such exporter"):
        write_through_blender(ball(2), tmp_path, "fbx", MeshOptions())
    assert not (tmp_path / "asset.fbx").exists()
