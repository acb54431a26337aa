"""Many calls at once: bulk runs."""
