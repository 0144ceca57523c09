"""Claims of the papers as data, and the verdicts of a study's measurements on them."""
