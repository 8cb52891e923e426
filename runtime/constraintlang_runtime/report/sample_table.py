"""The table of samples as data for the page's script: JSON that no text can leave, at most 2,000 rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from .data import SampleText, SystemReport
from .legible import TEXT_LIMIT, cut
from .sample_file import MAX_ROWS, shares


def table_data(systems: Sequence[SystemReport]) -> dict[str, Any]:
    """What the script shows: labels, and rows as lists in the order of ``columns``, violations first.

    Names of systems, statements and domains are given once; a row has their places.
    """
    labels = [system.label for system in systems]
    clauses: dict[str, int] = {}
    domains: dict[str, int] = {}
    bad = [[s for s in system.samples if s.violates] for system in systems]
    rest = [[s for s in system.samples if not s.violates] for system in systems]
    places = shares(MAX_ROWS, [len(samples) for samples in bad])
    more = shares(MAX_ROWS - sum(places), [len(samples) for samples in rest])
    chosen = [
        (number, sample)
        for groups, sizes in ((bad, places), (rest, more))
        for number in reversed(range(len(systems)))
        for sample in groups[number][: sizes[number]]
    ]
    rows = [
        [
            number,
            clauses.setdefault(sample.clause, len(clauses)),
            domains.setdefault(sample.domain, len(domains)),
            cut(sample.prompt),
            _length(sample.prompt, sample.prompt_length),
            cut(sample.completion),
            _length(sample.completion, sample.completion_length),
            sample.score,
            sample.violates,
        ]
        for number, sample in chosen
    ]
    return {
        "systems": labels,
        "clauses": list(clauses),
        "domains": list(domains),
        "columns": ["system", "clause", "domain", "prompt", "prompt_length", "completion", "completion_length",
                    "score", "violates"],
        "rows": rows,
        "num_samples": sum(_total(system) for system in systems),
        "num_violations": sum(_violations(system) for system in systems),
    }  # fmt: skip


def script_json(value: Any) -> Markup:
    """JSON for a ``script`` element: ASCII only, and without a character that could end the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _length(text: str, whole: int | None) -> int:
    return whole if whole is not None else len(text)


def _total(system: SystemReport) -> int:
    return len(system.samples) if system.num_samples is None else system.num_samples


def _violations(system: SystemReport) -> int:
    known = system.num_violations
    return sum(sample.violates is True for sample in system.samples) if known is None else known


def shown_text(sample: SampleText) -> SampleText:
    """A sample whose texts a page can show outright."""
    if len(sample.prompt) <= TEXT_LIMIT and len(sample.completion) <= TEXT_LIMIT:
        return sample
    return SampleText(
        prompt=cut(sample.prompt), completion=cut(sample.completion), domain=sample.domain, score=sample.score,
        violates=sample.violates, clause=sample.clause,
        prompt_length=_length(sample.prompt, sample.prompt_length),
        completion_length=_length(sample.completion, sample.completion_length),
    )  # fmt: skip
