"""`viewtime app`: serve the page until interrupted."""

from __future__ import annotations

import os
from pathlib import Path

from viewtime.configs.schema.app import AppConfig
from viewtime.errors import UserError, require
from viewtime.log import log
from viewtime.recon.view_command import LOOPBACK

from .commands import end_all


def run(config: AppConfig) -> list[Path]:
    """Entry of the command; it ends by Ctrl-C.

    Raises:
        UserError: gradio is not installed, or the address cannot be served at.
    """
    if config.frames < 1:
        raise UserError(f"--frames {config.frames}; at least 1 is needed")
    # Nothing is told to anyone; read when gradio is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    require("gradio", "app")
    import uvicorn

    from .page import make_page
    from .server import listen, web_app

    listening = listen(config.host, config.port)
    with listening:
        app = web_app(make_page(config), config.out, config.host)
        if config.host not in LOOPBACK:
            log.warning(
                "--host %s: EVERYONE who reaches this machine over the network can see all runs in %s and start new "
                "ones; leave --host out to serve this machine alone",
                config.host, config.out,
            )  # fmt: skip
        log.info("open http://%s:%d in a browser; Ctrl-C ends", config.host, listening.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        try:
            server.run(sockets=[listening])
        finally:
            end_all()
    return []
