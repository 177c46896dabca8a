"""`viewtime view`: an asset in the browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from viewtime.configs.view import ViewConfig
from viewtime.errors import require
from viewtime.log import log

from .asset import GaussianAsset
from .mesh import extract_mesh
from .mesh_file import load_mesh
from .web_page import write_page


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
    """Keeps the splats in the browser at the slider's frame."""

    def __init__(self, server: Any, asset: GaussianAsset) -> None:
        self.slider = server.gui.add_slider("frame", 0, max(1, asset.frames - 1), 1, 0)
        self.playing = server.gui.add_checkbox("play", True)
        self.frames, self.asset = asset.frames, asset
        self.splats = server.scene.add_gaussian_splats("/asset", **self._splats(0))
        self.slider.on_update(lambda _: self.show(int(self.slider.value)))

    def _splats(self, frame: int) -> dict[str, Any]:
        means, covariance = self.asset.at(float(frame))
        if covariance.shape[-1] == 1:
            import torch

            covariance = covariance[..., None] * torch.eye(3)
        return {
            "centers": means.numpy(), "covariances": covariance.numpy(),
            "rgbs": self.asset.colour.numpy(), "opacities": self.asset.opacity[:, None].numpy(),
        }  # fmt: skip

    def show(self, frame: int) -> None:
        """Move the splats to a frame."""
        state = self._splats(frame)
        self.splats.centers, self.splats.covariances = state["centers"], state["covariances"]

    def tick(self) -> None:
        """One step of the animation if it plays."""
        if self.playing.value and self.frames > 1:
            self.slider.value = (int(self.slider.value) + 1) % self.frames


def start_server(asset: GaussianAsset, port: int) -> tuple[Any, Player]:
    """A viser server with the asset in it."""
    viser = require("viser", "view")
    server = viser.ViserServer(port=port, verbose=False)
    server.scene.set_up_direction("+z")
    return server, Player(server, asset)
