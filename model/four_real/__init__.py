"""4Real-Video: a pixel-space video transformer run along rows and columns of a grid, with synchronisation layers."""
