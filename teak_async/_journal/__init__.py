"""The crash-safe journal of a bulk run."""
