"""Worker processes that do not outlive the process that they work for."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent(*_: object) -> None:
    """Initialiser of a worker made by `multiprocessing`: ends it when the process that asked for it is gone.

    A fork server's workers are its children, keep it alive, and never see that the asking process was killed. The
    arguments that an initialiser may get are not used.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("end_with_parent is for worker processes")

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end_with_parent", daemon=True).start()
