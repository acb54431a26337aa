"""`python -m teak_async`."""

from ._cli.main import run

if __name__ == "__main__":
    run()
