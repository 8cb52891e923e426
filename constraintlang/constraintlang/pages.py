"""The form of a page about one diagnostic code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """What there is to say about a code."""

    code: str
    title: str
    explanation: str
    failing: str
    repaired: str

    def text(self) -> str:
        """The page as plain text."""
        parts = [f"{self.code}: {self.title}", self.explanation]
        for head, example in (("Instead of", self.failing), ("write", self.repaired)):
            parts.append(f"{head}\n\n" + "\n".join("    " + line for line in example.split("\n")))
        return "\n\n".join(parts) + "\n"


def page_of(code: str, title: str, explanation: str, failing: str, repaired: str) -> Page:
    """A page whose explanation may be broken into lines anywhere."""
    return Page(code, title, " ".join(explanation.split()), failing, repaired)
