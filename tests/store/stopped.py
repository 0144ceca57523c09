"""How a test stops what writes at a touch of the disk."""


class KilledError(Exception):
    """A stop at a touch of the disk."""
