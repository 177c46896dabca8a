"""viewtime: one video of a moving object in, a grid of views × time and a 4D asset out."""

from __future__ import annotations

import importlib
import os
import pwd
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viewtime.cameras import Cameras as Cameras
    from viewtime.grid import FrameGrid as FrameGrid
    from viewtime.recon.assets import load_asset as load_asset
    from viewtime.recon.assets import reconstruct as reconstruct
    from viewtime.sample.metrics.evaluate import evaluate as evaluate
    from viewtime.sample.pipeline import Pipeline as Pipeline

__version__ = "0.1.0"
# Imported when first asked for, so that `import viewtime` does not wait for torch.
_PUBLIC = {
    "Cameras": "viewtime.cameras",
    "FrameGrid": "viewtime.grid",
    "Pipeline": "viewtime.sample.pipeline",
    "evaluate": "viewtime.sample.metrics.evaluate",
    "load_asset": "viewtime.recon.assets",
    "reconstruct": "viewtime.recon.assets",
}
__all__ = ["Cameras", "FrameGrid", "Pipeline", "__version__", "evaluate", "load_asset", "reconstruct"]


def _let_threads_sleep() -> None:
    """Threads of torch that wait for the next piece of work soon sleep, unless the user said otherwise.

    By default they spin for milliseconds: where other jobs run beside, small operations then cost many times their
    processor time. With a few microseconds of spinning a free machine is as fast (docs/speed.md). GNU OpenMP reads the
    variable when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _name_user() -> None:
    """A container may run us under a number that no account has; torch and others ask for a name and a home."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
            os.environ["LOGNAME"] = f"user{os.getuid()}"
        os.environ.setdefault("HOME", tempfile.gettempdir())


# Uninstalled, from a checkout, `viewtime.model` and its siblings lie beside this folder; `viewtime.render_objaverse`
# lies in tools/. An installed or editable package finds them through its own mapping.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
    __path__.append(str(_root / "tools"))

_name_user()
_let_threads_sleep()


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'viewtime' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
