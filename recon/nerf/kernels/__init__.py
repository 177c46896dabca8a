"""Hash-grid features and ray marching: C++ for the CPU, Warp for CUDA, plain torch as the reference of both."""
