"""The report: a static site of a store's results that works from disk, without a network."""
