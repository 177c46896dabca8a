"""Noise, schedules, samplers, guidance and step caches: from a denoiser to a sample."""
