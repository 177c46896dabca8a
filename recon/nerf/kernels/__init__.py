"""The NeRF's kernels with one source for CUDA and the CPU (Warp)."""
