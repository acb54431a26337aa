"""One call: its attempts, its retries, its connection."""
