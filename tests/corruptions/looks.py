"""How images look, in a few numbers, so that two ways to make them can be compared."""

import numpy as np


def standard_errors(differences):
    """Return how far from 0 the mean over images is, in its standard errors; 0 where all agree."""
    error = differences.std(axis=1, ddof=1) / np.sqrt(differences.shape[1])
    return abs(differences.mean(axis=1)) / np.maximum(error, 1e-9)


def look(images, clean):
    """Describe each image by its colour, its change, and roughness: (severities, images, 8)."""
    images, change = images.astype(float), images.astype(float) - clean
    axes = (2, 3, 4)
    return np.stack(
        [
            *np.moveaxis(images.mean(axis=(2, 3)), -1, 0),
            abs(change).mean(axis=axes),
            (change**2).mean(axis=axes),
            abs(np.diff(images, axis=2)).mean(axis=axes),
            abs(np.diff(images, axis=3)).mean(axis=axes),
            abs(np.diff(change, axis=4)).mean(axis=axes),
        ],
        axis=-1,
    )
