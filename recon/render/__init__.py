"""Gaussian renderers behind one interface: plain torch, compiled C++ for the CPU, gsplat on CUDA."""
