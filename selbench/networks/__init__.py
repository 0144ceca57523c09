"""Networks under test: those of a study, and those that users bring."""
