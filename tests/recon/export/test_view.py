"""The pages that `viewtime view` makes: what they hold, how they are served, what a browser shows of them."""

import base64
import http.client
import json
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import ball

from viewtime.cameras import Cameras, regular_orbit
from viewtime.configs.schema.reconstruct import MeshOptions
from viewtime.configs.schema.view import ViewConfig
from viewtime.errors import UserError
from viewtime.grid import FrameGrid
from viewtime.recon.export.glb import write_animated
from viewtime.recon.export.mesh_file import save_mesh
from viewtime.recon.export.web_page import quantised, write_page
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.view_command import foreign, make_page, run, serve

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FRAMES, SIDE = 2, 400


@pytest.fixture(scope="module")
def asset():
    """A round red Gaussian before a green one, and a long blue one above them."""
    means = torch.tensor([[0.0, -0.2, 0.0], [0.05, 0.2, 0.0], [0.0, 0.0, 0.3]])
    flat = torch.diag(torch.tensor([0.2, 0.03, 0.03]) ** 2)
    covariance = torch.stack([torch.eye(3) * 0.08**2, torch.eye(3) * 0.12**2, flat])
    return GaussianAsset(
        means.expand(FRAMES, -1, -1), covariance, torch.tensor([0.95, 0.9, 0.9]), torch.eye(3)[[0, 1, 2]] * 0.8,
        torch.eye(3).expand(FRAMES, 3, 3, 3), 10.0, {"fov_y": 33.8, "distance": 2.2, "elevation": 11.46},
    )  # fmt: skip


def data_of(page: Path, name: str = "asset"):
    return json.loads(page.read_text().split(f"const {name} = ")[1].split(";\n")[0])


def test_the_page_holds_the_gaussians(asset, tmp_path):
    data = data_of(write_page(None, tmp_path / "page.html", asset))
    assert data["mesh"] is None
    splats = data["splats"]
    places = np.frombuffer(base64.b64decode(splats["positions"]), "<u2").reshape(FRAMES, 3, 4)[..., :3]
    world = splats["low"] + (splats["high"] - splats["low"]) * places / 65535
    np.testing.assert_allclose(world, asset.means, atol=2e-5)
    rows = np.frombuffer(base64.b64decode(splats["factors"]), "<i2").reshape(FRAMES, 3, 8) * splats["unit"]
    lower = np.zeros((FRAMES, 3, 3, 3))
    lower[..., [0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]] = rows[..., :6]
    np.testing.assert_allclose(lower @ lower.swapaxes(-1, -2), asset.covariance.expand(FRAMES, -1, -1, -1), atol=1e-5)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_what_the_renderer_renders(asset, tmp_path):
    page = write_page(ball(FRAMES), tmp_path / "page.html", asset)
    shots = {
        mode: screenshot(page, mode, tmp_path / f"{mode}.png") for mode in ("splats-still", "mesh-still", "both-still")
    }
    camera = Cameras(torch.tensor([[11.4592]]), torch.zeros(1, 1), torch.full((1, 1), 2.2), 33.8045)
    expected = asset.render_grid(camera, SIDE, SIDE).rgb()[0, 0].permute(1, 2, 0).numpy()
    assert np.abs(shots["splats-still"] - expected).mean() < 0.01
    assert np.abs(shots["splats-still"] - expected).max() < 0.2
    assert np.abs(shots["mesh-still"] - expected).mean() > 0.03
    middle, half = slice(SIDE // 4, -SIDE // 4), SIDE // 2
    for side, mode in ((slice(half), "splats-still"), (slice(half, None), "mesh-still")):
        assert np.abs(shots["both-still"][:, side] - shots[mode][:, middle]).max() < 0.02


def screenshot(page: Path, mode: str, path: Path) -> np.ndarray:
    """The canvas as floats [SIDE, SIDE, 3]."""
    words = [
        str(BROWSER), "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
        "--hide-scrollbars", "--enable-unsafe-swiftshader", f"--user-data-dir={path.parent / 'profile'}",
        f"--screenshot={path}",
        f"--window-size={SIDE},{SIDE + 44}", "--virtual-time-budget=2000", f"{page.as_uri()}#{mode}",
    ]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True, timeout=240)
    return np.asarray(Image.open(path).convert("RGB"))[:SIDE] / 255.0


def test_a_grid_a_glb_and_the_folder_above_are_shown(asset, tmp_path):
    frames = torch.rand(3, FRAMES, 3, 12, 16)
    FrameGrid(frames, torch.zeros(3, FRAMES, dtype=torch.bool), regular_orbit(3, FRAMES)).save(tmp_path / "x" / "grid")
    (page,) = run(ViewConfig(tmp_path / "x", html=tmp_path / "grid.html"))
    grid = data_of(page, "grid")
    assert (grid["views"], grid["frames"], grid["width"], grid["height"]) == (3, FRAMES, 16, 12)
    assert grid["labels"] == ["0°", "120°", "240°"]
    asset.save(tmp_path / "x-asset")
    save_mesh(ball(FRAMES), tmp_path / "x-asset")
    glb = write_animated(ball(FRAMES), tmp_path / "x-asset" / "asset.glb", MeshOptions())
    for path in (tmp_path / "x-asset", glb):
        assert data_of(make_page(path, tmp_path / "page.html", 100))["splats"]["count"] == 3
    shutil.copy(glb, tmp_path / "alone.glb")
    alone = data_of(make_page(tmp_path / "alone.glb", tmp_path / "page.html", 100))
    assert alone["splats"] is None
    triangles = np.frombuffer(base64.b64decode(alone["mesh"]["triangles"]), "<u4")
    assert len(triangles) == 3 * len(ball(FRAMES).triangles)
    assert (alone["mesh"]["low"], alone["mesh"]["high"]) == pytest.approx((-0.5, 0.5), abs=0.01)
    with pytest.raises(UserError, match="no such asset"):
        make_page(tmp_path / "nothing", tmp_path / "p.html", 100)


def test_it_is_served_to_this_machine_and_to_its_own_page_alone(tmp_path):
    (tmp_path / "index.html").write_text("<html>here</html>")
    with serve(tmp_path, ViewConfig(tmp_path).host, 0) as server:
        port = server.server_address[1]
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def answer(**headers):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/", headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read()

        assert answer() == (200, b"<html>here</html>")
        assert answer(Origin=f"http://127.0.0.1:{port}")[0] == 200
        assert answer(Origin="http://evil.example")[0] == 403
        assert answer(Host=f"evil.example:{port}", Origin=f"http://evil.example:{port}")[0] == 403
        with pytest.raises(UserError, match="a free port"):
            serve(tmp_path, "127.0.0.1", port)
        server.shutdown()
    with pytest.raises(UserError, match=r"--host 192\.0\.2\.7 .*give an address of this machine"):
        serve(tmp_path, "192.0.2.7", 0)
    assert not foreign(None, "example.org:8080", "0.0.0.0")
    assert not foreign("http://example.org:8080", "example.org:8080", "0.0.0.0")
    assert foreign("http://other.org", "example.org:8080", "0.0.0.0")


def test_positions_that_are_not_finite_are_named():
    positions = np.zeros((2, 3, 3))
    positions[1, 0, 2] = np.nan
    with pytest.raises(UserError, match="1 of 6 positions are not finite"):
        quantised(positions)
