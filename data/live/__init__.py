"""Training grids rendered while training: assets, changes to them, and a family rendered once."""
