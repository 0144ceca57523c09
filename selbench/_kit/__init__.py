"""Tools that know nothing of robustness: errors, files, locks, devices, progress, registries."""
