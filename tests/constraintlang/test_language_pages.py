"""Every code has a page, and the pages and the reference say what is true."""

import re
from importlib import resources
from pathlib import Path

import pytest

import constraintlang
from constraintlang import SourceFile, check_source, format_policy, parse
from constraintlang.catalogue import PAGES, page
from constraintlang.style import check_style

PACKAGE = Path(constraintlang.__file__).parent
REFERENCE = (PACKAGE / "REFERENCE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```policy([^\n]*)\n(.*?)```", REFERENCE, re.DOTALL)


def check_file(folder, text):
    """The result for a text that stands in `my.policy`, and its codes, those of style among them."""
    (folder / "my.policy").write_text(text, encoding="utf-8")
    result = check_source(SourceFile(text, "my.policy", folder))
    return result, {d.code for d in [*result.diagnostics, *check_style(result.source, result.tree)]}


@pytest.mark.parametrize("entry", PAGES.values(), ids=lambda p: p.code)
def test_pages(entry, tmp_path):
    _, failing = check_file(tmp_path, entry.failing)
    result, repaired = check_file(tmp_path, entry.repaired)
    assert entry.code in failing
    assert entry.code not in repaired
    assert result.errors == ()
    assert not entry.title.endswith(".")
    assert entry.explanation.endswith(".")
    assert entry.failing.split("\n")[0] in entry.text()


def test_every_code_in_the_source_has_a_page():
    used = set()
    for path in PACKAGE.glob("*.py"):
        if not path.name.endswith("_pages.py"):
            used |= set(re.findall(r'"(PC\d{3})"', path.read_text(encoding="utf-8")))
    assert used == set(PAGES)
    assert page("pc201") == PAGES["PC201"].text()
    with pytest.raises(KeyError):
        page("PC999")


def test_the_reference_has_blocks_and_names_every_code():
    assert len(BLOCKS) > 20
    assert set(re.findall(r"PC\d{3}", REFERENCE)) == set(PAGES)


@pytest.mark.parametrize(("info", "text"), BLOCKS, ids=lambda part: part.strip().split("\n")[0][:40])
def test_reference_blocks(info, text):
    result = check_source(text)
    expected = re.findall(r"PC\d{3}", info)
    if expected:
        assert {d.code for d in result.errors} == set(expected)
    else:
        assert [d for d in result.diagnostics if d.severity != "note"] == []
        assert format_policy(parse(text)[0]) == text, "blocks are written canonically"


def test_prelude():
    text = resources.files("constraintlang_policies").joinpath("prelude_1.policy").read_text(encoding="utf-8")
    assert parse(text)[1] == []
    assert format_policy(parse(text)[0]) == text


def test_keywords_are_those_of_the_grammar():
    from constraintlang.machine import build_machine
    from constraintlang.wording import KEYWORDS

    literals = {t.pattern.value for t in build_machine().lark.terminals if t.pattern.type == "str"}
    assert {word for word in literals if word.isidentifier()} == {word.lower() for word in KEYWORDS}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.stem)
def test_examples_in_docstrings(path):
    import doctest
    import importlib

    name = "constraintlang" if path.stem == "__init__" else f"constraintlang.{path.stem}"
    assert doctest.testmod(importlib.import_module(name)).failed == 0
