"""The app's web server: gradio's page and the files of the runs, for the app's own page alone."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from viewtime.errors import UserError
from viewtime.recon.view_command import foreign

FILES = "/made"  # under which the runs' folder is served


def web_app(page: Any, out: Path, host: str) -> Any:
    """The ASGI application of a gradio page; requests from pages of other sites are refused.

    Args:
        out: folder of the runs, whose files are served under /made.
    """
    import fastapi
    import gradio
    from fastapi.staticfiles import StaticFiles

    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    out.mkdir(parents=True, exist_ok=True)
    app.mount(FILES, StaticFiles(directory=out), name="made")
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    options: dict[str, Any] = {"allowed_paths": [str(out.resolve())], "footer_links": [], "ssr_mode": False}
    return OwnPagesAlone(gradio.mount_gradio_app(app, page, path="/", theme=theme, **options), host)


class OwnPagesAlone:
    """An ASGI application behind `foreign`: a browser lets any page open a connection to this machine."""

    def __init__(self, app: Any, host: str) -> None:
        self.app, self.host = app, host

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            if foreign(headers.get("origin"), headers.get("host"), self.host):
                await send(
                    {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]}
                )
                await send({"type": "http.response.body", "body": b"this page is of another site"})
                return
        await self.app(scope, receive, send)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        UserError: the port is taken or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen()  # whoever opens the address before the server runs waits, and is not refused
    except OSError as error:
        made.close()
        raise UserError(
            f"--host {host} --port {port}: {error.strerror or error}; give an address of this machine, a free port"
        ) from error
    return made
