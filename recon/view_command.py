"""`viewtime view`: an asset in the browser."""

from __future__ import annotations

import http
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from viewtime.configs.schema.view import ViewConfig
from viewtime.errors import UserError, require
from viewtime.log import log
from viewtime.recon.export.mesh_file import load_mesh
from viewtime.recon.export.web_page import write_page
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.surface.mesh import extract_mesh

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(config: ViewConfig) -> list[Path]:
    """Write the page, or serve the asset until interrupted."""
    asset = GaussianAsset.load(config.asset)
    if config.html is not None:
        mesh = load_mesh(config.asset) or extract_mesh(asset, faces=config.faces)
        return [write_page(mesh, config.html)]
    server, player = start_server(asset, config.host, config.port)
    shown = "localhost" if config.host in LOOPBACK else config.host
    log.info("open http://%s:%d in a browser; Ctrl-C ends", shown, server.get_port())
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


@contextmanager
def own_pages_alone(host: str) -> Iterator[None]:
    """Servers started inside the block refuse what a page of another site asks of them.

    A browser lets any page open a connection to this machine; viser would answer it.
    """
    import websockets.asyncio.server as websockets_server

    serve = websockets_server.serve

    def guarded_serve(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
        def guard(connection: Any, request: Any) -> Any:
            if foreign(request.headers.get("Origin"), request.headers.get("Host"), host):
                return connection.respond(http.HTTPStatus.FORBIDDEN, "this page is of another site\n")
            return process_request(connection, request) if process_request is not None else None

        return serve(*arguments, process_request=guard, **options)

    websockets_server.serve = guarded_serve  # type: ignore[assignment]
    try:
        yield
    finally:
        websockets_server.serve = serve


def foreign(origin: str | None, asked: str | None, host: str) -> bool:
    """Whether a request comes from a page of another site.

    Args:
        origin: header of a page's request; None for programs and for the page itself.
        asked: header Host: what the browser believes to talk to.
        host: what the server listens at; on loopback only its own names are right, whatever a name server says.
    """
    name = urlsplit(f"//{asked}").hostname if asked else None
    if host in LOOPBACK and name not in LOOPBACK:
        return True
    return origin is not None and urlsplit(origin).netloc != asked


def start_server(asset: GaussianAsset, host: str, port: int) -> tuple[Any, Player]:
    """A viser server with the asset in it; it answers pages of its own alone.

    Raises:
        UserError: viser is not installed, or the host is no address of this machine.
    """
    viser = require("viser", "view")
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise UserError(f"--host {host}: {error.strerror or error}; give an address of this machine") from error
    with own_pages_alone(host):
        server = viser.ViserServer(host=host, port=port, verbose=False)
    server.scene.set_up_direction("+z")
    camera = server.initial_camera
    # Azimuth 0, a little from above, and near enough that an object of size one fills the window's height.
    camera.position, camera.look_at, camera.up = (0.0, -2.2, 0.44), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    camera.fov = 0.59
    return server, Player(server, asset)
