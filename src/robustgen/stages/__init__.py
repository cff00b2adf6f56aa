"""Stage families, one a module: options as a dataclass, a call of the library, an artifact written."""
