"""Reconstruction of a grid as a 4D asset: deformable Gaussians, dynamic NeRF, export, viewer."""
