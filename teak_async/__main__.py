"""`python -m teak_async`."""

from .cli import run

if __name__ == "__main__":
    run()
