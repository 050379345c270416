"""The command: a thin twin of the Python functions. Everything heavy is imported inside the commands."""

# In the order of --help; each registers its commands.
from aftertune.cli import stages, results, formats, listings  # noqa: I001
from aftertune.cli.app import app, main

__all__ = ["app", "formats", "listings", "main", "results", "stages"]
