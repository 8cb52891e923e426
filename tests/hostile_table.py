"""Every hostile input of the tests with what must come of it; ``tests/hostile.md`` shows this table.

``python tests/hostile_table.py`` writes the page.
"""

from __future__ import annotations

from pathlib import Path

from hostile_policies import POLICIES
from hostile_texts import HOSTILE, LONG, SCORED

PAGE = Path(__file__).parent / "hostile.md"
COMMAND = "python tests/hostile_table.py"
MAX_SHOWN = 70  # characters

PAGES = (
    "`runtime/test_runtime_report_browser.py`, `runtime/test_runtime_report_samples.py`, "
    "`runtime/test_runtime_card.py`"
)
SCORERS = "`runtime/test_runtime_hostile.py`"
SHOWN = (
    "shown as text, unseen characters as signs: no script runs, nothing is requested, the page and the terminal "
    "keep their form, the JSON reads back"
)
ANSWERED = "every scorer answers or has no score; nothing is run, no file is written"
BOUNDED = "no score from parsers, an answer from the others, in the time of a test"


def rows() -> list[tuple[str, str, str, str]]:
    """Kind, name, input and outcome of each."""
    found = [("text that is shown", name, text, SHOWN) for name, text in HOSTILE.items()]
    found += [("text that is scored", name, text, ANSWERED) for name, text in SCORED.items()]
    found += [("text of millions of characters", name, text, BOUNDED) for name, text in LONG.items()]
    for name, one in POLICIES.items():
        by = "refused by the compiler" if one.by.startswith("PC") else "refused before it is scored"
        found.append(("policy", name, one.text, f"{by}, `{one.by}`: {one.says.replace('`', '')}"))
    return found


def page() -> str:
    """The text of ``tests/hostile.md``."""
    table = rows()
    lines = [
        "# Hostile inputs, and what must come of them",
        "",
        f"<!-- Written by `{COMMAND}` from tests/hostile_texts.py and tests/hostile_policies.py; edit those. -->",
        "",
        f"{len(table)} inputs: {len(HOSTILE)} texts that are shown ({PAGES}),",
        f"{len(SCORED) + len(LONG)} texts that are scored and {len(POLICIES)} policies ({SCORERS}).",
        f"Inputs are written as Python writes them, cut at {MAX_SHOWN} characters.",
        "",
        "| | kind | name | input | outcome |",
        "|---:|---|---|---|---|",
    ]
    for number, (kind, name, text, outcome) in enumerate(table, start=1):
        lines.append(f"| {number} | {kind} | {name} | {_code(text)} | {outcome} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    """The text in ASCII as a cell of a table."""
    shown = ascii(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN])[1:-1]
    if len(text) > MAX_SHOWN:
        shown += f"... ({len(text):,})"
    return f"<code>{shown.translate(_ENTITIES)}</code>"


_ENTITIES = {ord(char): f"&#{ord(char)};" for char in "&<>|`*_[]{}$~"}


if __name__ == "__main__":
    PAGE.write_text(page())
