"""One mesh whose vertices move, out of moving Gaussians: extraction, refinement, paint, joints."""
