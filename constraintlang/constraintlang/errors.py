"""The root of the exceptions that this project raises for its users.

``ConstraintLangError`` > ``PolicyError`` (in ``diagnostics.py``), and the errors of the packages above.
"""

from __future__ import annotations


class ConstraintLangError(Exception):
    """Something that the user of the library can act on; never raised for a bug of ours."""
