"""Between which numbers the options of a reconstruction must lie, whatever its method."""

from viewtime.configs.limits import MANY

LIMITS = {
    "save_every": (1, MANY), "orbit_seconds": (0, 600), "early_stop": (0, 1), "init.resolution": (8, 1024),
    "gaussians.count": (4, MANY), "gaussians.control_points": (1, MANY), "gaussians.static_iterations": (0, MANY),
    "gaussians.dynamic_iterations": (0, MANY), "gaussians.frames_per_step": (1, MANY),
    "gaussians.views_per_step": (1, MANY), "gaussians.densify": (0, MANY), "gaussians.prune_opacity": (0, 1),
    "gaussians.learning_rate": (1e-9, MANY), "nerf.static_iterations": (0, MANY), "nerf.dynamic_iterations": (0, MANY),
    "nerf.frames_per_step": (1, MANY), "nerf.views_per_step": (1, MANY), "nerf.rays_per_cell": (1, MANY),
    "scene.fov_y": (1, 170), "scene.opacity_iterations": (0, MANY), "scene.still_threshold": (0, 1),
    "direct.cells": (8, 1024), "scene.near": (1e-6, 1), "scene.far": (1, 1e6),
}  # fmt: skip
