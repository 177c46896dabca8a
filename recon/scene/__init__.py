"""Scenes: cameras that do not orbit an object, whole pictures, views that disagree (4Real-Video, supplement 6)."""
