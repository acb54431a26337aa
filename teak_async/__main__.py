"""`python -m teak_async`."""

from ._cli.app import run

if __name__ == "__main__":
    run()
