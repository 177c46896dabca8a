"""Command lines of deep configs: `--config NAME --section.key value` over a YAML mapping, lists by index.

tyro cannot address free-form dictionaries (a model's or a stream's options) or the items of a list read from a
file; here every key of the mapping can be set, and the schema checks the result.
"""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from docstring_parser import parse_from_object

from viewtime.configs.load import build, load_preset, presets, yaml_value
from viewtime.errors import UserError

Schema = TypeVar("Schema")


def parse_overrides(
    schema: type[Schema],
    argv: list[str],
    prog: str,
    parts: dict[str, type] | None = None,
    *,
    command: str = "train",
    positional: str | None = None,
    read: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Schema:
    """`--config NAME` and any number of `--section.key value` or `--flag` (true).

    Args:
        parts: dataclasses of free-form keys of the schema, which `--help` lists too.
        command: whose presets are taken.
        positional: key that one argument without a name sets.
        read: the mapping, with its key `config`, from the values without a section; default: the preset `config`.

    Raises:
        UserError: no config, an unknown or missing key, or a value of the wrong type.
        SystemExit: `--help`.
    """
    if "--help" in argv or "-h" in argv:
        print(help_text(schema, prog, parts, command, positional))
        raise SystemExit(0)
    given: dict[str, Any] = {}
    if positional and argv and not argv[0].startswith("--"):
        given[positional], argv = argv[0], argv[1:]
    pairs = list(_pairs(argv))
    plain = {key: yaml_value(value, f"--{key}") for key, value in pairs if "." not in key}
    if read is None and "config" not in plain:
        raise UserError(f"no config: give --config NAME or --config FILE.yaml; presets: {', '.join(presets(command))}")
    mapping = (read(plain) if read else load_preset(plain["config"], command) | {"config": plain["config"]}) | given
    for key, value in pairs:
        if key != "config":
            _assign(mapping, key.split("."), yaml_value(value, f"--{key}"), key)
    if positional and positional not in mapping:
        raise UserError(
            f"no {positional}: {prog} {positional.upper()} comes first, then --config NAME and other options"
        )
    return build(schema, mapping, "config")


def _pairs(argv: list[str]) -> typing.Iterator[tuple[str, str]]:
    index = 0
    while index < len(argv):
        argument = argv[index]
        if not argument.startswith("--"):
            raise UserError(f"unexpected argument {argument!r}; options are --section.key value")
        key, equals, value = argument[2:].partition("=")
        has_value = index + 1 < len(argv) and not argv[index + 1].startswith("--")
        if not equals:
            value = argv[index + 1] if has_value else "true"
            index += has_value
        index += 1
        yield ".".join(part.replace("-", "_") for part in key.split(".")), value


def _assign(mapping: dict[str, Any], path: list[str], value: Any, whole: str) -> None:
    target: Any = mapping
    for position, key in enumerate(path):
        last = position == len(path) - 1
        if isinstance(target, list):
            if not key.isdigit() or int(key) >= len(target):
                raise UserError(f"--{whole}: {'.'.join(path[:position])} is a list of {len(target)}; index it from 0")
            if last:
                target[int(key)] = value
            target = target[int(key)]
            if not last and not isinstance(target, (dict, list)):
                raise UserError(f"--{whole}: {'.'.join(path[: position + 1])} is a single value, {target!r}")
        elif last:
            target[key] = value
        else:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
            if not isinstance(target, (dict, list)):
                raise UserError(f"--{whole}: {'.'.join(path[: position + 1])} is a single value, {target!r}")


def help_text(
    schema: type,
    prog: str,
    parts: dict[str, type] | None = None,
    command: str = "train",
    positional: str | None = None,
) -> str:
    """Each key of the schema with its type, default and meaning, and the presets; see `parse_overrides`."""
    width = shutil.get_terminal_size().columns
    first = f"{positional.upper()} [--config NAME|FILE.yaml]" if positional else "--config NAME|FILE.yaml"
    lines = [f"usage: {prog} {first} [--section.key value ...]"]
    lines += _describe(schema, "", parts or {}, width)
    return "\n".join([*lines, "", *textwrap.wrap(f"presets: {', '.join(presets(command))}", width)])


def _describe(schema: type, prefix: str, parts: dict[str, type], width: int) -> list[str]:
    """The keys of one section, then the sections below it."""
    hints, meanings = typing.get_type_hints(schema), field_help(schema)
    title = f"{prefix.rstrip('.')}: " if prefix else ""
    lines = ["", *textwrap.wrap(f"{title}{(schema.__doc__ or '').partition(chr(10))[0]}", width)]
    below: list[str] = []
    for item in dataclasses.fields(schema):  # type: ignore[arg-type]
        hint, name = hints[item.name], f"{prefix}{item.name}"
        inner = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
        if inner:
            number = {list: "0.", dict: "NAME."}.get(typing.get_origin(hint), "")
            below += _describe(typing.cast(type, inner[0]), f"{name}.{number}", parts, width)
            continue
        lines.append(f"  --{name}  {_type_and_default(hint, item)}")
        indent = " " * 6
        lines += textwrap.wrap(meanings[item.name], width, initial_indent=indent, subsequent_indent=indent)
        if name in parts:
            below += _describe(parts[name], f"{name}.", parts, width)
    return lines + below


def field_help(schema: type) -> dict[str, str]:
    """The text of each documented field, from the class docstring's `Attributes:` or from the string below it."""
    parameters = parse_from_object(schema).params
    return {item.arg_name: " ".join(item.description.split()) for item in parameters if item.description}


def _type_and_default(hint: Any, item: dataclasses.Field) -> str:
    kind = str(hint) if typing.get_args(hint) else getattr(hint, "__name__", str(hint))
    if item.default is not dataclasses.MISSING:
        default = f"default {item.default!r}"
    elif item.default_factory is not dataclasses.MISSING:
        default = f"default {item.default_factory()!r}"
    else:
        default = "required"
    return f"{kind.replace('typing.', '')} ({default})"
