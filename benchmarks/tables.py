"""Tables that benchmarks write into documents, between marks that name the command."""

from __future__ import annotations

from pathlib import Path


def write_table(document: Path, name: str, lines: list[str], command: str) -> None:
    """Put a table between `<!-- NAME: COMMAND -->` and `<!-- end of NAME -->` of a document."""
    begin, end = f"<!-- {name}: {command} -->", f"<!-- end of {name} -->"
    before, mark, rest = document.read_text().partition(begin)
    assert mark, f"{document} has no mark of the table {name}"
    assert end in rest, f"{document} has no end of the table {name}"
    document.write_text("\n".join([before + begin, "", *lines, "", end]) + rest.partition(end)[2])
