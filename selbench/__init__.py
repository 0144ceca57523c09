"""Robustness benchmarks for image classifiers, built round class selectivity."""

__version__ = "0.1.0"
