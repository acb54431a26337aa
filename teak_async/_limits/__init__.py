"""The rate limits: permits, and who gets the next one."""
