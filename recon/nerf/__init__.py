"""The dynamic NeRF of SV4D (3.2, A.5): a canonical hash grid, a deformation over time, and its fit to a grid."""
