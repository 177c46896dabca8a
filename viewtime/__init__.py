"""viewtime: one video of a moving object in, a grid of views × time and a 4D asset out."""

from pathlib import Path

__version__ = "0.1.0"

# Uninstalled, from a checkout, `viewtime.model` and its siblings lie beside this folder; `viewtime.render_objaverse`
# lies in tools/. An installed or editable package finds them through its own mapping.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
    __path__.append(str(_root / "tools"))
