"""``python -m constraintc``: the command, where a launcher such as torchrun wants a module."""

from __future__ import annotations

import sys

from constraintc.main import entry_point

if __name__ == "__main__":
    sys.exit(entry_point())
