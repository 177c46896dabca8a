"""Configs that an earlier version wrote, read so that fields which came since count as their defaults."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
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


def mark_of(options: dict[str, Any], rest: str) -> dict[str, Any]:
    """What a kept state is of, as JSON holds it: the options that decide it, and `fingerprint` of all else."""
    return json.loads(json.dumps({"options": plain(options), "rest": rest}, default=str))


def read_mark(path: Path) -> Any:
    """What a mark's file holds; None, which is the mark of nothing, where that is no JSON."""
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError):
        return None


def same_mark(schema: type, before: Any, now: dict[str, Any]) -> bool:
    """Whether a run of `now` may go on from a state of `before`, which an earlier version may have written.

    An option that `before` lacks counts as its default, and one that `now` leaves out changes nothing. One that the
    schema does not know is a difference: nobody knows any more what it did.

    Args:
        schema: of the options.
        before: whatever the state's file holds. now: made by `mark_of`.
    """
    if not isinstance(before, dict) or not isinstance(before.get("options"), dict) or before.get("rest") != now["rest"]:
        return False
    known = {field.name for field in dataclasses.fields(schema)}
    full = mark_of(with_defaults(schema, before["options"]), now["rest"])["options"]
    decisive = {name: value for name, value in full.items() if name in now["options"] or name not in known}
    return json.dumps(decisive, sort_keys=True) == json.dumps(now["options"], sort_keys=True)


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
