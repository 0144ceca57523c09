"""Adversarial attacks: searches for perturbations in a ball that make a network err."""
