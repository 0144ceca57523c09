"""Corrupted sets on disk: read, written, shown and checked."""
