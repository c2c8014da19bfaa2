"""What the script ``crowd`` starts: the installed engine, whatever else is called engine on the way of imports.

A file engine.py in a folder of PYTHONPATH, such as the working folder, would be found before it.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run :func:`engine.cli.run` of the package that lies beside this file."""
    path = list(sys.path)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    try:
        from engine import cli
    finally:
        # What the engine needs is found where everybody finds it.
        sys.path[:] = path
    cli.run()
