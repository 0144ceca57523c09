"""Randomness is an argument: a generator is derived from the name of what it is for."""

import hashlib

import torch


def seeded(name: str, seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator that depends on nothing but `name`, `seed` and the kind of device."""
    digest = hashlib.sha256(f"{name}/{seed}".encode()).digest()
    generator = torch.Generator(device)
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator
