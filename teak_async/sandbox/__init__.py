"""A stand-in for Teak's server: the four calls, their limits, and the faults of a real network.

It imports nothing of the client, so that it can be the judge of the client's promises.
"""

from .faults import Fault, Faults
from .server import CALLS, CATEGORY, GAME_ID, IDENTIFY, SECRET_KEY, STATUS, Player, Received, Sandbox

__all__ = [
    "CALLS",
    "CATEGORY",
    "GAME_ID",
    "IDENTIFY",
    "SECRET_KEY",
    "STATUS",
    "Fault",
    "Faults",
    "Player",
    "Received",
    "Sandbox",
]
