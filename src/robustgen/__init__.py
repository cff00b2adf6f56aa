"""robustgen: five papers on generative modelling and adversarial robustness, reproduced as one pipeline."""

from robustgen.hub import load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"
