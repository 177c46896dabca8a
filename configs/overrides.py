"""Command lines of deep configs: `--config NAME --section.key value` over a YAML mapping, lists by index.

tyro cannot address free-form dictionaries (a model's or a stream's options) or the items of a list read from a
file; here every key of the mapping can be set, and the schema checks the result.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

import yaml

from viewtime.configs.load import build, load_preset, presets
from viewtime.errors import UserError

Schema = TypeVar("Schema")


def parse_overrides(schema: type[Schema], argv: list[str], prog: str) -> Schema:
    """`--config NAME` and any number of `--section.key value` or `--flag` (true).

    Raises:
        UserError: no config, an unknown or missing key, or a value of the wrong type.
        SystemExit: `--help`.
    """
    if "--help" in argv or "-h" in argv:
        print(help_text(schema, prog))
        raise SystemExit(0)
    pairs = list(_pairs(argv))
    names = [value for key, value in pairs if key == "config"]
    if not names:
        raise UserError(f"no config: give --config NAME or --config FILE.yaml; presets: {', '.join(presets())}")
    mapping = load_preset(names[-1])
    mapping["config"] = names[-1]
    for key, value in pairs:
        if key != "config":
            _assign(mapping, key.split("."), yaml.safe_load(value), key)
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
        elif last:
            target[key] = value
        else:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
            if not isinstance(target, (dict, list)):
                raise UserError(f"--{whole}: {'.'.join(path[: position + 1])} is a single value, {target!r}")


def help_text(schema: type, prog: str) -> str:
    """One line for each key of the schema with its type and default, and the presets."""
    lines = [f"usage: {prog} --config NAME|FILE.yaml [--section.key value ...]", "", "keys:"]
    lines += _describe(schema, "")
    return "\n".join([*lines, "", f"presets: {', '.join(presets())}"])


def _describe(schema: type, prefix: str) -> list[str]:
    hints = typing.get_type_hints(schema)
    lines: list[str] = []
    for item in dataclasses.fields(schema):  # type: ignore[arg-type]
        hint, name = hints[item.name], f"{prefix}{item.name}"
        inner = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
        if inner:
            number = "0." if typing.get_origin(hint) is list else ""
            lines += _describe(typing.cast(type, inner[0]), f"{name}.{number}")
            continue
        kind = getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)
        if item.default is not dataclasses.MISSING:
            default = f" (default {item.default!r})"
        elif item.default_factory is not dataclasses.MISSING:
            default = f" (default {item.default_factory()!r})"
        else:
            default = " (required)"
        lines.append(f"  --{name}  {kind.replace('typing.', '')}{default}")
    return lines
