"""What is shaped: hash grids over space and time, Gaussians, their backgrounds, and how they are shown."""
