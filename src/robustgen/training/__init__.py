"""Training algorithms, one a module."""
