"""Licence names as people write them, reduced to families, and the list of those allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Sketchfab's and Objaverse's short names.
SHORT_NAMES = {name: f"CC-{name.upper()}" for name in ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd")}
LONG_NAMES = {
    "PUBLIC DOMAIN": "0", "ATTRIBUTION": "BY", "SHARE ?ALIKE": "SA", "NON-?COMMERCIAL": "NC",
    "NO ?DERIV(ATIVE)?S": "ND",
}  # fmt: skip
_VERSION = re.compile(
    r"(-LICEN[CS]E)?(-V?\d[\d.]*)?(-CLAUSE)?$"
)  # nothing after it: a further word may be a restriction
_FAMILY = re.compile(r"(CC0|CC-BY(?:-NC)?(?:-(?:SA|ND))?|[A-Z0-9+.]+(?:-[A-Z0-9+.]+)*)")


def family(licence: str | None) -> str | None:
    """Licence family without version: "CC-BY-4.0 (mesh CC0)" -> "CC-BY", "by-nc" -> "CC-BY-NC"; None if unknown."""
    text = (licence or "").strip()
    if not text or text.lower() in ("unknown", "none"):
        return None
    text = SHORT_NAMES.get(text.lower(), text).upper()
    text = re.sub(r"^CREATIVE COMMONS\s*", "CC ", text)
    if text.startswith("CC"):  # Sketchfab's long names, as in Objaverse-XL
        for words, short in LONG_NAMES.items():
            text = re.sub(words, short, text)
    text = re.sub(r"\s*[-\s]\s*", "-", text.partition("(")[0].strip())
    text = text.replace("CC-0", "CC0")
    match = _FAMILY.match(text)
    if match is None:
        return None
    found = match.group(0)
    return found if found.startswith(("CC0", "CC-BY")) else _VERSION.sub("", found)


def is_allowed(licence: str | None, allowed: Iterable[str]) -> bool:
    """Whether the licence's family is one of the allowed ones (given in any spelling)."""
    found = family(licence)
    return found is not None and found in {family(name) for name in allowed}
