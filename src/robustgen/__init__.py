"""robustgen: five papers on generative modelling and adversarial robustness, reproduced as one pipeline."""

__version__ = "0.1.0"
