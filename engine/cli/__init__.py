"""The command ``crowd``: one file for each of its parts."""

from engine.cli.command import main

__all__ = ["main"]
