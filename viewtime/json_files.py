"""The one door for JSON: text in, a checked value of a schema out, or one line that says what is wrong where."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from viewtime.errors import UserError

Schema = TypeVar("Schema")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LARGEST = 1 << 28  # bytes; no JSON of ours comes near


def read_json(path: str | Path, schema: type[Schema]) -> Schema:
    """A JSON file as a value of the schema: a dataclass with types (and limits, `Annotated[int, Meta(ge=1)]`), or
    dict, list and so on. Keys that the schema does not have are left out.

    Raises:
        UserError: missing, too large, not JSON, a key is missing, or a value is of another type.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    size = path.stat().st_size
    if size > LARGEST:
        raise UserError(f"{path} has {size / 1e6:.0f} MB; a JSON file of at most {LARGEST / 1e6:.0f} MB is read")
    return parse_json(path.read_bytes().removeprefix(BYTE_ORDER_MARK), schema, str(path))


def parse_json(text: bytes | str, schema: type[Schema], where: str) -> Schema:
    """As `read_json`, of a text; `where` names it in errors."""
    try:
        return msgspec.json.decode(text, type=schema)
    except UserError as error:
        raise UserError(f"{where} is damaged: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {_told(error)}") from error


def checked(value: Any, schema: type[Schema], where: str) -> Schema:
    """As `read_json`, of a value that is plain already (a part of a JSON file, YAML)."""
    try:
        return msgspec.convert(value, schema)
    except UserError as error:
        raise UserError(f"{where} is damaged: {error}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UserError(f"{where} is damaged: {_told(error)}") from error


def finite_json(value: Any) -> Any:
    """A plain value with null where a number is infinite or NaN, which JSON does not have and `read_json` refuses."""
    if isinstance(value, dict):
        return {str(key): finite_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _told(error: BaseException) -> str:
    """msgspec's words with the place as users write it: `cameras.fov_y` for `$.cameras.fov_y`."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).replace("`$.", "`").replace("`$", "`the whole").replace("`", "'")
