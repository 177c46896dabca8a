"""The asset that a generator's solids are already: Gaussians without a fit."""
