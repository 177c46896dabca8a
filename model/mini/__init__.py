"""viewtime-mini: a small pixel-space grid transformer in the manner of SV4D 2.0, for the CPU."""
