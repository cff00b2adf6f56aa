"""Samplers as pure functions: from an energy or a score to images. One algorithm a file."""
