"""The page of hostile inputs is that of the tests, and there are enough of them."""

from __future__ import annotations

from hostile_table import COMMAND, PAGE, page, rows


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), f"run `{COMMAND}`"


def test_there_are_fifty_of_them_with_names_of_their_own() -> None:
    found = rows()
    assert len({(kind, name) for kind, name, _, _ in found}) == len(found)
    assert len({text for _, _, text, _ in found}) >= 50
    kinds = [kind for kind, _, _, _ in found]
    assert kinds.count("policy") >= 50


def test_the_page_holds_no_hostile_text_itself() -> None:
    text = PAGE.read_text()
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    cells = [
        line.split(" | ")[3] for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()
    ]
    assert len(cells) == len(rows())
    assert not any("<" in cell.removeprefix("<code>").removesuffix("</code>") for cell in cells)
