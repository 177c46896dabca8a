"""Curation, shards, sample schema, view and frame selection, augmentation, encoding to latents."""
