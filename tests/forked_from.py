"""What the process imports that the tests' commands are forked from, so that it has done once what each would do first."""

from __future__ import annotations

import forked
from typer.testing import CliRunner

import benchmarks.members
import benchmarks.processes
import teak_async._cli.commands
import teak_async._cli.hosting
import teak_async._cli.main
from teak_async._cli.app import app

__all__ = ["benchmarks", "forked", "teak_async"]

CliRunner().invoke(app, ["--version"])  # typer imports more when it reads the first arguments
