"""One limit for many processes: permits move between a ledger and its members, and are never made."""
