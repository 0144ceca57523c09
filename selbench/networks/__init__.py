"""Networks under test: those that a study trains, and those of users."""
