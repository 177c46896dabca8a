"""Errors for users: one line that says what was wrong, the value, the limit and the way out."""

from __future__ import annotations

import importlib
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
        raise UserError(f"this needs {top_level}, which is not installed: pip install 'viewtime[{extra}]'") from error
