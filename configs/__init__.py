"""Typed schemas and YAML presets. Nothing here imports torch, so that `--help` is fast."""
