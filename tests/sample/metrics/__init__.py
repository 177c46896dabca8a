"""Tests of `viewtime.sample.metrics`."""
