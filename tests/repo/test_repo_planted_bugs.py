"""The table of planted bugs does not rot: its edits fit the code, its tests exist, and the page shows its records."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from planted_bugs import CAUGHT, COMMAND, PAGE, ROOT, planted, table
from planted_bugs_table import RECORDS, Edit, Record

ADAPT = "adapt tests/planted_bugs_table.py and run " + COMMAND
IDS = [f"{record.number}-{index}" for index, record in enumerate(RECORDS)]


@cache
def functions(file: str) -> dict[str, bool]:
    """The test functions of a file, and whether Hypothesis draws their arguments."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {
        node.name: any("given(" in ast.unparse(decorator) for decorator in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_property_has_its_number() -> None:
    assert {record.number for record in RECORDS} == set(range(1, 41))
    assert [record.number for record in RECORDS] == sorted(record.number for record in RECORDS)


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_an_edit_fits_the_code_and_its_test_exists(record: Record) -> None:
    for edit in record.edits:
        assert (ROOT / edit.file).read_text(encoding="utf-8").count(edit.old) == 1, (edit, ADAPT)
        assert edit.new != edit.old
    file, name = record.test.split("::")
    assert name in functions(file), ADAPT


def test_every_property_is_tested_on_drawn_examples() -> None:
    drawn = {r.number for r in RECORDS for file, name in [r.test.split("::")] if functions(file)[name]}
    assert drawn == set(range(1, 41))


def test_no_bug_is_planted_twice_for_one_test() -> None:
    assert Counter((record.test, record.edits) for record in RECORDS).most_common(1)[0][1] == 1


def test_the_page_shows_every_record_as_caught() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    shown = [line for line in lines if line.startswith("|")]
    assert shown == table(RECORDS, [CAUGHT] * len(RECORDS)), f"run {COMMAND}"
    assert any(f"`{COMMAND}`" in line for line in lines)


# ------------------------------------------------------------ the script itself
def test_a_bug_is_taken_out_again(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one two\n", encoding="utf-8")
    record = Record(1, "s", "t.py::t", "b", (Edit("a.py", "one", "1"), Edit("a.py", "two", "2")))
    with planted(tmp_path, record):
        assert (tmp_path / "a.py").read_text(encoding="utf-8") == "1 2\n"
    assert (tmp_path / "a.py").read_text(encoding="utf-8") == "one two\n"


@pytest.mark.parametrize("text", ["", "one one"])
def test_an_edit_that_does_not_fit_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    record = Record(7, "s", "t.py::t", "b", (Edit("a.py", "one", "1"),))
    with pytest.raises(ValueError, match=r"property 7: .* expected it once"), planted(tmp_path, record):
        pass
    assert (tmp_path / "a.py").read_text(encoding="utf-8") == text
