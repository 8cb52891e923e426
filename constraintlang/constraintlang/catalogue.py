"""One page per diagnostic code of the language: what it means, a policy that meets it, the policy repaired.

The examples are run by the tests; ``constraintc explain CODE`` prints the pages.
"""

from __future__ import annotations

from constraintlang.hints_pages import HINTS_PAGES
from constraintlang.meaning_pages import MEANING_PAGES
from constraintlang.names_pages import NAMES_PAGES
from constraintlang.pages import Page
from constraintlang.syntax_pages import SYNTAX_PAGES
from constraintlang.tests_pages import TESTS_PAGES

PAGES: dict[str, Page] = {
    page.code: page
    for stage in (SYNTAX_PAGES, NAMES_PAGES, MEANING_PAGES, HINTS_PAGES, TESTS_PAGES)
    for page in stage
}
"""All pages by code."""


def page(code: str) -> str:
    r"""The page of a code as plain text; raises KeyError when the language has no such code.

    >>> print(page("PC201").split("\n")[0])
    PC201: one formula mixes one response with the whole distribution
    """
    return PAGES[code.upper()].text()
