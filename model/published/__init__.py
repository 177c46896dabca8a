"""The published checkpoints: their presets, names of tensors, file formats, and telling them apart."""
