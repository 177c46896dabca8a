"""What `viewtime export` and `viewtime view` make of an asset: every file read back with another reader."""

import base64
import dataclasses
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
import trimesh
from scenes import ball

from viewtime.configs.schema.export import ExportConfig
from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.configs.schema.view import ViewConfig
from viewtime.errors import UserError
from viewtime.recon.export.mesh_file import load_mesh, save_mesh
from viewtime.recon.export_command import export_asset
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.render.splats import Viewpoints
from viewtime.recon.surface.atlas import unfolded
from viewtime.recon.view_command import run
from viewtime.video import read_video

FRAMES = 3


@pytest.fixture(scope="module")
def asset():
    """A ball of Gaussians, red below and blue above, that moves along x."""
    points = torch.from_numpy(np.array(trimesh.creation.icosphere(2, 0.25).vertices)).float()
    points = torch.cat([points, 0.6 * points])
    means = points + torch.tensor([0.1, 0.0, 0.0]) * torch.arange(FRAMES)[:, None, None]
    colour = torch.where(points[:, 2:] > 0, torch.tensor([0.2, 0.2, 0.9]), torch.tensor([0.9, 0.2, 0.2]))
    count = len(points)
    return GaussianAsset(
        means, torch.full((count, 1), 0.04**2), torch.full((count,), 0.8), colour,
        torch.eye(3).expand(FRAMES, count, 3, 3), 10.0, {"fov_y": 33.9, "distance": 2.0, "elevation": 10.0},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(asset, tmp_path_factory):
    path = tmp_path_factory.mktemp("asset")
    asset.save(path)
    return path


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """The folder with every format."""
    out = tmp_path_factory.mktemp("out")
    formats = ("glb", "obj", "mesh_ply", "gaussian_ply", "turntable", "webm", "depth", "normal", "view", "html")
    options = MeshOptions(faces=600, resolution=40)
    paths = export_asset(ExportConfig(folder, out, formats, size=48, mesh=options))
    assert len(paths) == len(formats)
    assert all(path.exists() for path in paths)
    return out


@pytest.mark.parametrize("kind", ["obj", "ply"])
def test_mesh_sequence_reads_back(exported, kind):
    files = sorted((exported / f"mesh_{kind}").iterdir())
    assert [file.name for file in files] == [f"frame_{f:03d}.{kind}" for f in range(FRAMES)]
    meshes = [trimesh.load(file, process=False) for file in files]
    middles = np.array([mesh.vertices.mean(axis=0) for mesh in meshes])
    np.testing.assert_allclose(middles[1:] - middles[:-1], [[0.1, 0, 0]] * (FRAMES - 1), atol=1e-4)
    assert 0.22 < np.linalg.norm(meshes[0].vertices, axis=1).mean() < 0.33
    assert meshes[0].volume > 0  # triangles face outwards
    colours = meshes[0].visual.vertex_colors[:, :3] / 255
    up = meshes[0].vertices[:, 2] > 0.1
    np.testing.assert_allclose(colours[up].mean(axis=0), [0.2, 0.2, 0.9], atol=0.03)


def test_gaussian_ply_follows_the_3dgs_convention(asset, exported):
    data = (exported / "gaussian_ply" / "frame_002.ply").read_bytes()
    header, body = data.split(b"end_header\n", 1)
    names = re.findall(r"property float (\S+)", header.decode())
    table = np.frombuffer(body, "<f4").reshape(-1, len(names))
    column = {name: table[:, i] for i, name in enumerate(names)}
    np.testing.assert_allclose(column["x"], asset.means[2, :, 0], atol=1e-6)
    np.testing.assert_allclose(np.exp(column["scale_1"]), 0.04, rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-column["opacity"])), 0.8, rtol=1e-5)
    colour = 0.5 + 0.28209479177387814 * np.stack([column[f"f_dc_{c}"] for c in range(3)], axis=1)
    np.testing.assert_allclose(colour, asset.colour, atol=1e-5)
    turn = np.stack([column[f"rot_{c}"] for c in range(4)], axis=1)
    np.testing.assert_allclose(turn, np.tile([1.0, 0, 0, 0], (len(turn), 1)))


def test_films_show_the_object_on_white(exported):
    for name, frames in (("turntable.gif", 96), ("depth.mp4", 96), ("normal.mp4", 96), ("view_0.mp4", FRAMES)):
        video = read_video(exported / name)
        assert video.frames.shape[:3] == (frames, 48, 48), name
        shown = video.frames[..., :3].astype(int)
        assert shown[:, 0, 0].min() > 240, name
        assert 100 < (shown.min(axis=-1) < 200).sum(axis=(1, 2)).min() < 1200, name
    depth = read_video(exported / "depth.mp4").frames[0].astype(int)
    assert depth[24, 24].mean() > depth[24, 24 - 7].mean() + 5  # the middle of the ball is nearer than its side
    normal = read_video(exported / "normal.mp4").frames[0].astype(int)
    assert normal[24, 24, 2] > 200  # towards the camera


def test_the_orbit_with_alpha_has_no_background(exported):
    video = read_video(exported / "orbit.webm")
    assert video.frames.shape == (96, 48, 48, 4)
    alpha = video.frames[..., 3].astype(int)
    assert alpha[:, :4].max() < 20
    assert alpha[:, 24, 20:28].min() > 200
    opaque = video.frames[0][video.frames[0][..., 3] > 250][:, :3].astype(int)
    assert np.abs(opaque - opaque.mean(axis=1, keepdims=True)).max(axis=1).mean() > 60  # red and blue, not white


def page_data(path):
    page = path.read_text()
    return page, json.loads(page.split("const asset = ")[1].split(";\n")[0])


def test_page_holds_the_mesh_and_its_script_is_valid(exported, tmp_path):
    page, data = page_data(exported / "asset.html")
    assert "src=" not in page  # nothing is fetched
    data = data["mesh"]
    assert "http" not in page
    positions = np.frombuffer(base64.b64decode(data["positions"]), "<u2").reshape(FRAMES, data["vertices"], 3)
    world = data["low"] + (data["high"] - data["low"]) * positions / 65535
    np.testing.assert_allclose(world[2] - world[0], np.tile([0.2, 0, 0], (len(world[0]), 1)), atol=1e-3)
    triangles = np.frombuffer(base64.b64decode(data["triangles"]), "<u4")
    assert triangles.max() < data["vertices"]
    assert len(base64.b64decode(data["colours"])) == 3 * data["vertices"]
    if not shutil.which("node"):
        pytest.skip("node is not installed: the page's script is not checked")
    script = tmp_path / "page.js"
    script.write_text(page.split("<script>")[1].split("</script>")[0])
    subprocess.run(["node", "--check", script], check=True, timeout=60)


def test_a_kept_mesh_is_exported_again(asset, tmp_path):
    asset.save(tmp_path)
    mesh = dataclasses.replace(ball(FRAMES), colour=np.full((642, 3), 0.25, np.float32))
    save_mesh(mesh, tmp_path)
    again = load_mesh(tmp_path)
    np.testing.assert_array_equal(again.positions, mesh.positions)
    (page,) = run(ViewConfig(tmp_path, html=tmp_path / "page.html"))
    assert page_data(page)[1]["mesh"]["vertices"] == 642
    (tmp_path / "mesh.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"mesh\.safetensors is a text file"):
        load_mesh(tmp_path)
    save_mesh(dataclasses.replace(mesh, triangles=mesh.triangles + 1), tmp_path)
    with pytest.raises(UserError, match="its tensors make no mesh"):
        load_mesh(tmp_path)


def test_a_kept_texture_is_read_again_or_told_to_be_damaged(tmp_path):
    mesh = ball(FRAMES, 1)
    texture = dataclasses.replace(unfolded(mesh, 32), picture=np.full((32, 32, 3), 77, np.uint8))
    save_mesh(dataclasses.replace(mesh, texture=texture), tmp_path)
    again = load_mesh(tmp_path).texture
    for name in ("vertex", "triangles", "uv", "picture"):
        np.testing.assert_array_equal(getattr(again, name), getattr(texture, name))
    uv, vertex, picture = texture.uv, texture.vertex, texture.picture
    for change in ({"uv": uv + 1}, {"uv": uv - 1}, {"vertex": np.roll(vertex, 1)}, {"picture": picture[:, :9]}):
        save_mesh(dataclasses.replace(mesh, texture=dataclasses.replace(texture, **change)), tmp_path)
        with pytest.raises(UserError, match="its texture does not belong to its mesh"):
            load_mesh(tmp_path)


def test_a_file_is_no_place_for_several_formats(asset, tmp_path):
    asset.save(tmp_path / "asset")
    with pytest.raises(UserError, match=r"--out .*x\.glb is named like a file"):
        export_asset(ExportConfig(tmp_path / "asset", out=tmp_path / "x.glb"))
    assert not (tmp_path / "x.glb").exists()


def test_finer_pictures_than_the_fit_are_smoothed_in_colour_not_in_outline(asset):
    """Neighbouring Gaussians of different colours, each smaller than a pixel of the fit, do not show as dots."""
    fine = (0.5 * torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))).clamp(-1, 1) * 0.2
    dots = torch.rand(4000, 1, generator=torch.Generator().manual_seed(1)).round().expand(-1, 3)
    speckled = GaussianAsset(
        fine[None], torch.full((4000, 1), 0.006**2), torch.full((4000,), 0.9), dots, torch.eye(3).expand(1, 4000, 3, 3),
        10.0, dict(asset.info),
    )  # fmt: skip
    known = dataclasses.replace(speckled, info={**asset.info, "size": [48, 48]})
    from viewtime.recon.export.films import orbit_cameras

    def spread(one, size):
        picture = one.render(Viewpoints.of(orbit_cameras(asset.info, 1), size, size), [0.0])
        middle = slice(size * 7 // 16, size * 9 // 16)
        return float((picture.rgb / picture.alpha.clamp(min=1e-4))[0, 0, middle, middle].std()), picture.alpha

    assert spread(known, 48)[0] == spread(speckled, 48)[0]
    (smooth, alpha), (rough, plain) = spread(known, 192), spread(speckled, 192)
    assert smooth < 0.7 * rough
    assert float(((alpha > 0.5) != (plain > 0.5)).float().mean()) < 0.02
