"""Defences and detectors built from a classifier and a generative model."""
