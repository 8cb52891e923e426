"""Plants one bug after another in a copy of the packages and looks whether the tests of the properties see it.

    python tests/planted_bugs.py            all records; writes tests/planted_bugs.md
    python tests/planted_bugs.py --only 12  those of property 12; writes nothing

A record is *caught* when its test passes without the bug and, with it, fails on an assertion: a test that cannot be
collected, or that ends with any other exception, counts as missed. Records are in ``planted_bugs_table.py``.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from planted_bugs_table import RECORDS, Record

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "tests" / "planted_bugs.md"
PACKAGES = ("constraintlang", "compiler", "runtime", "policies")
COMMAND = "python tests/planted_bugs.py"
SECONDS = 600  # for the tests of one record on a slow machine
CAUGHT = "caught"
_ASSERTION = re.compile(r"(AssertionError|assert |Failed: DID NOT RAISE)")


def main() -> int:
    """The command: 0 when every bug is caught, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=int, action="append", metavar="N", help="only property N; repeatable")
    wanted = parser.parse_args().only
    records = [record for record in RECORDS if not wanted or record.number in wanted]
    with tempfile.TemporaryDirectory(prefix="planted-bugs-") as folder:
        copy = copied(Path(folder) / "checkout")
        code, problem = run(copy, [record.test for record in records])
        if code != 0:
            print(f"without any bug the tests end with {code}: {problem}", file=sys.stderr)
            return 1
        results = []
        for record in records:
            results.append(result(copy, record))
            print(
                f"{record.number:2}  {results[-1]:8}  {record.test.split('::')[1]}  {record.bug}", flush=True
            )
    if not wanted:
        PAGE.write_text(page(records, results), encoding="utf-8")
    return int(any(found != CAUGHT for found in results))


def copied(target: Path) -> Path:
    """The packages and tests as they are now, in a folder of their own."""
    for name in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def result(copy: Path, record: Record) -> str:
    """``caught``, or what happened instead."""
    with planted(copy, record):
        code, problem = run(copy, [record.test])
    if code == 1 and _ASSERTION.match(problem):
        return CAUGHT
    return f"MISSED: the tests end with {code} {problem.splitlines()[0] if problem else ''}".strip()


@contextmanager
def planted(copy: Path, record: Record) -> Iterator[None]:
    """The copy with the bug of a record in it.

    Raises: ValueError when the text to replace does not stand exactly once in its file.
    """
    before = {edit.file: (copy / edit.file).read_text(encoding="utf-8") for edit in record.edits}
    try:
        for edit in record.edits:
            text = (copy / edit.file).read_text(encoding="utf-8")
            if text.count(edit.old) != 1:
                raise ValueError(
                    f"property {record.number}: got {text.count(edit.old)} times `{edit.old}` in {edit.file}, "
                    "expected it once: adapt the record to the changed code"
                )
            (copy / edit.file).write_text(text.replace(edit.old, edit.new), encoding="utf-8")
        yield
    finally:
        for file, text in before.items():
            (copy / file).write_text(text, encoding="utf-8")


def run(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """The exit code of pytest on some tests, and what the first failure says."""
    report = copy / "report.xml"
    report.unlink(missing_ok=True)
    # Bytecode is not written: an edit within one second that keeps the size of a file would go unseen.
    paths = os.pathsep.join(str(copy / name) for name in PACKAGES)
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=planted", f"--junitxml={report}"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *dict.fromkeys(tests)],
            cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"after {SECONDS} seconds"
    problem = done.stderr.strip()
    if report.exists():
        found = ElementTree.parse(report).getroot()
        for kind in ("error", "failure"):
            problem = next((p.get("message") or "" for p in found.iter(kind)), problem)
    return done.returncode, problem


# ------------------------------------------------------------ the page
def page(records: Sequence[Record], results: Sequence[str]) -> str:
    """The text of ``planted_bugs.md``."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("hypothesis", "pytest"))
    return "\n".join(
        [
            "# Planted bugs",
            "",
            "Each property of the language is tested on random typed trees, and each test was seen to fail on a bug",
            "planted for it. Without the bug it passes. One line is one bug; the result says what its test did.",
            "",
            *table(records, results),
            "",
            f"Written by `{COMMAND}` on {datetime.date.today().isoformat()} with Python "
            f"{platform.python_version()}, {versions}.",
            "",
        ]
    )


def table(records: Sequence[Record], results: Sequence[str]) -> list[str]:
    """The lines of the table."""
    lines = ["| No. | Property | Test | Planted bug | Result |", "|---|---|---|---|---|"]
    for record, found in zip(records, results, strict=True):
        files = ", ".join(dict.fromkeys(f"`{edit.file.split('/', 1)[1]}`" for edit in record.edits))
        test = record.test.removeprefix("tests/")
        cells = (str(record.number), record.statement, f"`{test}`", f"{files}: {record.bug}", found)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
