"""Configs that an earlier version wrote, read so that fields which came since count as their defaults."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from viewtime.run_folder import plain


def with_defaults(schema: type, written: dict[str, Any]) -> dict[str, Any]:
    """A config's plain mapping with the fields that it lacks at their defaults, at every depth.

    Nothing is checked: what the schema does not know stays, and a required field that is not there stays away.
    """
    hints = typing.get_type_hints(schema)
    result = dict(written)
    for field in dataclasses.fields(schema):
        if field.name in written:
            result[field.name] = _completed(hints[field.name], written[field.name])
        elif field.default is not dataclasses.MISSING:
            result[field.name] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            result[field.name] = plain(field.default_factory())
    return result


def _completed(hint: Any, value: Any) -> Any:
    """`with_defaults` of the dataclasses inside a value."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _completed(arguments[0], value)
    if origin in (typing.Union, types.UnionType):
        inner = [kind for kind in arguments if dataclasses.is_dataclass(kind)]
        return _completed(inner[0], value) if len(inner) == 1 else value
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return with_defaults(hint, value)  # type: ignore[arg-type]
    if origin in (list, tuple) and arguments and isinstance(value, (list, tuple)):
        return [_completed(arguments[0], item) for item in value]
    if origin is dict and arguments and isinstance(value, dict):
        return {key: _completed(arguments[1], item) for key, item in value.items()}
    return value
