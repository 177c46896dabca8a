"""Errors for users: one line that says what was wrong, the value, the limit and the way out."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


class UserError(ValueError):
    """Something the user can put right. Commands print its message alone; the traceback shows with `--debug`."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        UserError: the module is not installed; names the extra of this package that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top_level = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != top_level:
            raise UserError(
                f"{module} is installed but cannot be imported: {error}; reinstall with pip install 'viewtime[{extra}]'"
            ) from error
        raise _missing(top_level, extra) from error


def require_installed(module: str, extra: str) -> None:
    """Check for an optional dependency that a process of its own will import.

    bpy is one: imported here in a thread, it crashes this process as it exits.

    Raises:
        UserError: the module, a top-level one, is not installed; names the extra of this package that brings it.
    """
    if importlib.util.find_spec(module) is None:
        raise _missing(module, extra)


def _missing(module: str, extra: str) -> UserError:
    """The error that names the extra of this package which brings `module`."""
    return UserError(f"this needs {module}, which is not installed: pip install 'viewtime[{extra}]'")
