"""`viewtime view`: an asset, a mesh file or a grid in the browser."""

from __future__ import annotations

import functools
import http.server
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from viewtime.configs.schema.view import ViewConfig
from viewtime.dnerf import open_grid
from viewtime.errors import UserError
from viewtime.free_cameras import FreeCameras
from viewtime.log import log
from viewtime.recon.export.foreign_glb import read_glb
from viewtime.recon.export.grid_page import write_grid_page
from viewtime.recon.export.mesh_file import load_mesh
from viewtime.recon.export.web_page import write_page
from viewtime.recon.gaussians.asset import GaussianAsset
from viewtime.recon.surface.mesh import MovingMesh, extract_mesh
from viewtime.where import find_asset, grids_in, is_asset

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(config: ViewConfig) -> list[Path]:
    """Write the page, or serve it until interrupted.

    Raises:
        UserError: the path means nothing that can be shown, or several things.
    """
    if config.html is not None:
        return [make_page(config.asset, config.html, config.faces)]
    with tempfile.TemporaryDirectory() as folder:
        make_page(config.asset, Path(folder) / "index.html", config.faces)
        with serve(Path(folder), config.host, config.port) as server:
            if config.host not in LOOPBACK:
                log.warning("--host %s: everyone who reaches this machine can see the asset", config.host)
            log.info("open http://%s:%d in a browser; Ctrl-C ends", config.host, server.server_address[1])
            server.serve_forever()
    return []


def make_page(path: Path, page: Path, faces: int) -> Path:
    """One self-contained page of what a path means: an asset, else a GLB, else a grid.

    Args:
        faces: triangles of the mesh, where `reconstruct` left none.
    """
    alone = path.is_file() and path.suffix.lower() in (".glb", ".gltf") and not is_asset(path.parent)
    if alone:
        return write_page(read_glb(path), page)
    grids = grids_in(path)
    if grids and not is_asset(path) and not (path.is_file() and is_asset(path.parent)):
        if len(grids) > 1:
            raise UserError(f"{path} holds {len(grids)} grids; name one of them: {', '.join(map(str, grids[:5]))}")
        log.info("showing the grid %s", grids[0])
        return write_grid_page(open_grid(grids[0]), page)
    folder = find_asset(path)
    if folder != path:
        log.info("showing the asset %s", folder)
    asset = GaussianAsset.load(folder)
    if "path" in asset.info:  # a scene has no surface to turn; it is shown as its own cameras see it
        cameras = FreeCameras.of_views(torch.tensor(asset.info["path"]), asset.frames, asset.info["fov_y"])
        return write_grid_page(asset.render_grid(cameras, *asset.info["size"]), page)
    return write_page(load_mesh(folder) or _surface(asset, faces), page, asset)


def _surface(asset: GaussianAsset, faces: int) -> MovingMesh | None:
    """The page's second mode; none where Gaussians are too few or faint for a surface, and are shown alone."""
    try:
        return extract_mesh(asset, faces=faces)
    except UserError as error:
        log.warning("showing the Gaussians alone: %s", error)
        return None


class _OwnPagesAlone(http.server.SimpleHTTPRequestHandler):
    """Files, for pages of this server alone: a browser lets any page open a connection to this machine."""

    def __init__(self, *arguments: Any, host: str, **options: Any) -> None:
        self.host = host
        super().__init__(*arguments, **options)

    def send_head(self) -> Any:
        if foreign(self.headers.get("Origin"), self.headers.get("Host"), self.host):
            return self.send_error(http.HTTPStatus.FORBIDDEN, "this page is of another site")
        return super().send_head()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


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


def serve(folder: Path, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """A server of one folder.

    Raises:
        UserError: the port is taken or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = type("Server", (http.server.ThreadingHTTPServer,), {"address_family": family})
    try:
        return kind((host, port), functools.partial(_OwnPagesAlone, host=host, directory=str(folder)))
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: {error.strerror or error}; give an address of this machine, a free port"
        ) from error
