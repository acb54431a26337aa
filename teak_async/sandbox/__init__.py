"""A stand-in for Teak's server: its calls, their limits, and the faults of a real network.

It imports nothing of the client, so that it shows what the client really does.
"""

from .endpoints import CALLS, CATEGORY, IDENTIFY, LIMITS, STATUS
from .faults import Fault, Faults
from .game import Player
from .server import GAME_ID, SECRET_KEY, Received, Sandbox

__all__ = [
    "CALLS",
    "CATEGORY",
    "GAME_ID",
    "IDENTIFY",
    "LIMITS",
    "SECRET_KEY",
    "STATUS",
    "Fault",
    "Faults",
    "Player",
    "Received",
    "Sandbox",
]
