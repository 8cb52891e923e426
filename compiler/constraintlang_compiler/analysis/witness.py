"""Sample laws: finite lists of responses with weights, tags and scores, and what the reference says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from constraintlang.checked import CheckedStatement
from constraintlang.semantics import rows_hold, statement_holds
from constraintlang_compiler.analysis.base_law import own_name
from constraintlang_compiler.domains import matches
from constraintlang_compiler.lower_domains import lower_domain


@dataclass(frozen=True)
class Response:
    """One row of a sample law: how much of the law it is, the tags of its prompt, its scores.

    A score named ``a@base`` is of the same text, one named ``a@base law`` of a response of the base model.
    In a law about the user's rows the scores are the model's perplexity and accuracy, ``@base`` those of the
    start model.
    """

    weight: Fraction
    tags: Mapping[str, str]
    scores: Mapping[str, Decimal]

    def to_json(self) -> dict[str, object]:
        """The row as plain data; numbers are texts, because they are exact."""
        return {
            "weight": str(self.weight),
            "tags": dict(sorted(self.tags.items())),
            "scores": {name: format(value, "f") for name, value in sorted(self.scores.items())},
        }


Sample = tuple[Response, ...]


def meets(statement: CheckedStatement, sample: Sequence[Response]) -> bool | None:
    """Whether a sample law meets a statement, by the reference interpreter; None when its domain is empty.

    Raises: ValueError for what the interpreter does not know.
    """
    domain = None if statement.domain is None else lower_domain(statement.domain)
    inside = [row for row in sample if row.weight and matches(domain, row.tags)]
    total = sum((row.weight for row in inside), Fraction(0))
    if not total:
        return None
    if statement.reading == "rows":
        values = {
            name: sum((row.weight * Fraction(row.scores[name]) for row in inside), Fraction(0)) / total
            for name in inside[0].scores
        }
        return rows_hold(statement, values)
    law = [(row.weight / total, _scores(row, of_base=False), row.tags) for row in inside]
    base = [(row.weight / total, _scores(row, of_base=True), row.tags) for row in inside]
    return statement_holds(statement, law, base)


def _scores(row: Response, *, of_base: bool) -> dict[str, Decimal]:
    """The scores of the model's response, or those of the base model's own."""
    if of_base:
        return {own: value for name, value in row.scores.items() if (own := own_name(name)) is not None}
    return {name: value for name, value in row.scores.items() if own_name(name) is None}


def table(sample: Sequence[Response]) -> list[str]:
    """The rows as lines of text, aligned, the heaviest first."""
    rows = sorted(sample, key=lambda row: -row.weight)
    tags = sorted({key for row in rows for key in row.tags})
    scores = sorted({key for row in rows for key in row.scores})
    lines = [["weight", *tags, *scores]]
    for row in rows:
        shown = [format(row.scores[key].normalize(), "f") if key in row.scores else "-" for key in scores]
        lines.append([_share(row.weight), *(row.tags.get(key, "-") for key in tags), *shown])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _share(weight: Fraction) -> str:
    if weight.denominator in (1, 2, 4, 5, 10, 20, 25, 50, 100):
        return f"{int(weight * 100)}%"
    return str(weight)
