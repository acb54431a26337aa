"""The command `teak-async`."""
