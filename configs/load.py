"""YAML presets into typed dataclasses; an unknown key fails and names the nearest one."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from viewtime.errors import UserError, first_line

LARGEST_NUMBER = 1 << 63
LARGEST_FILE = 1_000_000  # bytes
PRESET_FOLDER = Path(__file__).resolve().parent
Schema = TypeVar("Schema")


def presets(command: str | None = None) -> list[str]:
    """Names of the presets that ship; of one command, or of all.

    Args:
        command: a command's name, or "model" for descriptions of networks, which several commands take by name.
    """
    names = sorted(path.stem for path in PRESET_FOLDER.glob("*.yaml"))
    return names if command is None else [name for name in names if preset_command(name) == command]


def preset_command(name: str) -> str:
    """The command that a shipped preset is for, its key `command`."""
    return _read(PRESET_FOLDER / f"{name}.yaml")["command"]


def suggest(name: str, known: list[str]) -> str:
    """The text " (did you mean …?)", or nothing where no known name is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def load_preset(name_or_path: str | Path, command: str | None = None) -> dict[str, Any]:
    """The mapping of a preset that ships (by name) or of a YAML file (by path), without its key `command`.

    A key `base` names another preset, of which this one gives the differences.

    Args:
        command: who asks; a file that says it is for another command is refused.

    Raises:
        UserError: no such preset or file, the YAML is not a mapping, or it is another command's.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESET_FOLDER / f"{name_or_path}.yaml"
        if not path.is_file():
            known = presets(command)
            raise UserError(
                f"no preset {name_or_path!r}{suggest(str(name_or_path), known)}; presets: {', '.join(known)}"
            )
    if not path.is_file():
        raise UserError(f"no such config file: {path}")
    mapping = _read(path)
    made_for = mapping.pop("command", command)
    if command is not None and made_for != command:
        raise UserError(
            f"{name_or_path} is {_in_words(made_for)}, and {_in_words(command)} is needed here: "
            f"{', '.join(presets(command)) or 'none ships'}"
        )
    if "base" in mapping:
        mapping = merged(load_preset(mapping.pop("base"), command), mapping)
    return mapping


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A mapping with changes: sections are merged key by key, null removes a key, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def _in_words(command: str) -> str:
    return "a model's description" if command == "model" else f"a preset of viewtime {command}"


def yaml_value(text: str | bytes, where: str) -> Any:
    """A YAML text's plain value; `where` names it in errors.

    Raises:
        UserError: not YAML, or nested too deeply.
    """
    if text == "":
        return ""  # what a shell gives for "" is text; null is written null
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML: {first_line(error)}") from error
    except (
        ValueError,
        TypeError,
        RecursionError,
        OverflowError,
        AttributeError,
        KeyError,
    ) as error:
        raise UserError(f"{where} is not YAML that can be read: {str(error) or type(error).__name__}") from error


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(f"{path} has {path.stat().st_size / 1e6:.0f} MB; a config of at most 1 MB is read")
    mapping = yaml_value(path.read_bytes(), str(path))
    if not isinstance(mapping, dict):
        raise UserError(f"{path} must hold a mapping of keys to values, not {type(mapping).__name__}")
    return mapping


def build(
    schema: type[Schema], mapping: dict[str, Any], where: str = "config", missing: Any = dataclasses.MISSING
) -> Schema:
    """A dataclass from a mapping, strictly: types are checked, nested dataclasses, lists and dicts of them built.

    Args:
        where: what to call the mapping in errors.
        missing: stands in for required keys that the mapping lacks; by default their absence is an error.

    Raises:
        UserError: an unknown or missing key, or a value of the wrong type.
    """
    hints = typing.get_type_hints(schema)
    fields = {field.name: field for field in dataclasses.fields(schema) if field.init}  # type: ignore[arg-type]
    if not isinstance(mapping, dict):
        raise UserError(f"{where} must be a mapping of {', '.join(fields)}; got {mapping!r}")
    for key in mapping:
        if key not in fields:
            raise UserError(f"unknown key {where}.{key}{suggest(str(key), list(fields))}; keys: {', '.join(fields)}")
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in mapping.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in mapping:
            if missing is dataclasses.MISSING:
                raise UserError(f"{where} lacks the key {name}")
            values[name] = missing
    return schema(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _convert(arguments[0], value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin is typing.Literal:
        if value not in arguments:
            allowed = ", ".join(map(str, arguments))
            raise UserError(
                f"{where} is {value!r}{suggest(str(value), [str(a) for a in arguments])}; one of: {allowed}"
            )
        return value
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} must be a list; got {value!r}")
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            if len(value) != len(arguments):
                raise UserError(f"{where} must have {len(arguments)} values; got {len(value)}")
            return tuple(_convert(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(arguments, value)))
        return origin(
            _convert(arguments[0] if arguments else Any, item, f"{where}[{i}]") for i, item in enumerate(value)
        )
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where} must be a mapping; got {value!r}")
        if not arguments:
            return value
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return _convert_plain(hint, value, where)


def _convert_union(arguments: tuple, value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    failures = []
    for kind in arguments:
        if kind is type(None):
            continue
        try:
            return _convert(kind, value, where)
        except UserError as error:
            failures.append(error)
    raise failures[0]


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, str):  # YAML reads 1e-4 (no dot) as a string
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"{where} is not a number (nan)")
    if isinstance(value, int) and abs(value) >= LARGEST_NUMBER:
        raise UserError(f"{where} is {value}; at most 2^63 is taken")
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise UserError(f"{where} must be {hint.__name__}; got {value!r}")
    return value
