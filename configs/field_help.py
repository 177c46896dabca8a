"""What a dataclass says of its fields: the texts behind `--help`."""

from __future__ import annotations


def field_help(schema: type) -> dict[str, str]:
    """The text of each documented field, from the class docstring's `Attributes:` or from the string below it."""
    from docstring_parser import parse_from_object

    parameters = parse_from_object(schema).params
    return {item.arg_name: " ".join(item.description.split()) for item in parameters if item.description}
