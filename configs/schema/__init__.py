"""Typed schemas of the commands' options; nothing here imports torch."""
