"""Schedules, samplers, guidance, the grid plan, video pre-processing, pipelines and metrics."""
