"""Adversarial attacks: perturbations inside a ball that are looked for with a network's help."""
