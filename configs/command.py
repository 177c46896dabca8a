"""Command lines from dataclasses: every field is `--section.key value`; a YAML preset changes the defaults."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import tyro

from viewtime.configs.load import build, load_preset

Schema = TypeVar("Schema")
PRESET_FLAGS = ("--config", "--preset")


def parse(schema: type[Schema], argv: list[str], prog: str, command: str | None = None) -> Schema:
    """Read a command line into a dataclass.

    Args:
        schema: the command's dataclass. If it has a field `config` or `preset`, the YAML named there supplies
            the defaults; values on the command line win.
        command: the command's name; a preset of another command is refused.

    Raises:
        UserError: the preset does not exist or does not fit the schema.
        SystemExit: `--help` (0) or misuse (2), as printed by tyro.
    """
    fields = {field.name: field for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
    for flag in PRESET_FLAGS:
        field = fields.get(flag.removeprefix("--"))
        if field is None:
            continue
        name = _value_of(flag, argv) or (field.default if isinstance(field.default, str) else None)
        if name is None:
            continue
        default = build(schema, load_preset(name, command), where=name, missing=tyro.MISSING)
        return tyro.cli(schema, args=argv, prog=prog, default=default)
    return tyro.cli(schema, args=argv, prog=prog)


def _value_of(flag: str, argv: list[str]) -> str | None:
    for index, argument in enumerate(argv):
        if argument == flag and index + 1 < len(argv):
            return argv[index + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None
