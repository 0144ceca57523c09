"""Statistics: intervals, spreads of seeds, sequential intervals, calibration errors."""
