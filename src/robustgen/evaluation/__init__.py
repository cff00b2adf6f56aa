"""Metrics, intervals and tests of the results."""
