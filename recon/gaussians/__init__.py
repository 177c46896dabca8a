"""Deformable Gaussians (4Real-Video, section 3.4): the canonical set, how it moves, and its fit to a grid."""
