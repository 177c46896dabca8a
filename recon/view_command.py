"""`viewtime view`: an asset in the browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from viewtime.configs.schema.view import ViewConfig
from viewtime.errors import require
from viewtime.log import log
from viewtime.recon.export.mesh_file import load_mesh
from viewtime.recon.export.web_page import write_page
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.surface.mesh import extract_mesh


def run(config: ViewConfig) -> list[Path]:
    """Write the page, or serve the asset until interrupted."""
    asset = GaussianAsset.load(config.asset)
    if config.html is not None:
        mesh = load_mesh(config.asset) or extract_mesh(asset, faces=config.faces)
        return [write_page(mesh, config.html)]
    server, player = start_server(asset, config.port)
    log.info("open http://localhost:%d in a browser; Ctrl-C ends", server.get_port())
    while True:
        player.tick()
        time.sleep(1.0 / asset.fps)


class Player:
    """Every frame's splats are in the browser at once and one frame's are visible.

    Splats that viser moves fade in anew each time, so an animation of one set of splats would stay transparent.
    """

    def __init__(self, server: Any, asset: GaussianAsset) -> None:
        self.slider = server.gui.add_slider("frame", 0, max(1, asset.frames - 1), 1, 0)
        self.playing = server.gui.add_checkbox("play", True)
        self.splats = [
            server.scene.add_gaussian_splats(f"/asset/{frame}", **splats_at(asset, frame), visible=frame == 0)
            for frame in range(asset.frames)
        ]
        self.shown = 0
        self.slider.on_update(lambda _: self.show(int(self.slider.value)))

    def show(self, frame: int) -> None:
        """Make a frame the visible one."""
        frame = min(frame, len(self.splats) - 1)
        self.splats[self.shown].visible = False
        self.splats[frame].visible = True
        self.shown = frame

    def tick(self) -> None:
        """One step of the animation if it plays."""
        if self.playing.value and len(self.splats) > 1:
            self.slider.value = (int(self.slider.value) + 1) % len(self.splats)


def splats_at(asset: GaussianAsset, frame: int) -> dict[str, Any]:
    """viser's arrays: centers [N, 3], covariances [N, 3, 3], rgbs [N, 3], opacities [N, 1]."""
    means, covariance = asset.at(float(frame))
    if covariance.shape[-1] == 1:
        covariance = covariance[..., None] * torch.eye(3)
    return {
        "centers": means.numpy(), "covariances": covariance.numpy(),
        "rgbs": asset.colour.numpy(), "opacities": asset.opacity[:, None].numpy(),
    }  # fmt: skip


def start_server(asset: GaussianAsset, port: int) -> tuple[Any, Player]:
    """A viser server with the asset in it."""
    viser = require("viser", "view")
    server = viser.ViserServer(port=port, verbose=False)
    server.scene.set_up_direction("+z")
    camera = server.initial_camera
    # Azimuth 0, a little from above, and near enough that an object of size one fills the window's height.
    camera.position, camera.look_at, camera.up = (0.0, -2.2, 0.44), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    camera.fov = 0.59
    return server, Player(server, asset)
