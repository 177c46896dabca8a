"""Batches: from any stream, checked and on the device; streams that need no files or add conditions."""
