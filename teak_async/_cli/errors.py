"""What ends a command before it sends anything."""

from __future__ import annotations


class InputError(Exception):
    """The input as a whole cannot be used; the message names the place and the remedy."""
