"""The report as JSON, and the one way in which reports reach the disk: whole, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constraintlang.json_text import json_text
from constraintlang_compiler.artifact import write_whole

from .data import ReportData, plain, report_data


def write_json(data: ReportData | Mapping[str, Any], path: str | Path) -> Path:
    """Write ``data`` as indented UTF-8 JSON with sorted keys; nan and infinity become null.

    Raises: DataError for a wrong key or value; OSError when the folder cannot be written.
    """
    values = plain(report_data(data))
    return write_text_atomic(json_text(values, indent=2, sort_keys=True) + "\n", path)


def write_text_atomic(text: str, path: str | Path) -> Path:
    """Write ``text`` to a temporary file beside ``path`` and rename it: a reader never sees half a report.

    Creates missing parent folders. Raises: OSError when the folder cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, text.encode())
    return target
