"""abmonitor: an online A/B experiment monitor for machine-learning models."""

from importlib.metadata import version


__version__ = version("abmonitor")
