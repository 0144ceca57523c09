"""What knows nothing of robustness: errors, files, locks, places, devices, progress, registries."""
