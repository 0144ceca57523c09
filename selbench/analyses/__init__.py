"""Analyses of a network and images: pure functions that need no study."""
