"""Judges texts by a policy: the real torch-free scorers, then the reference interpreter and the compiled checkers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from constraintlang import check_source
from constraintlang import nodes as n
from constraintlang.checked import CheckedStatement
from constraintlang.segments import split
from constraintlang.semantics import Response, evaluate
from constraintlang_compiler.attributes import parts_needed
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.domains import matches
from constraintlang_compiler.lower_domains import lower_domain
from constraintlang_compiler.parts import PartScores
from constraintlang_compiler.pipeline import compile_source
from constraintlang_compiler.sources import read_source
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.verification import verify_clause

TORCH_FREE = ("regex", "lexicon", "length", "json")
Scores = dict[str, Decimal | None]


def _parts(text: str, level: str) -> list[str]:
    """The parts of a text; words stand for tokens, because there is no tokenizer here."""
    if level == "tokens":
        return [text[: word.end()] for word in re.finditer(r"\S+", text)]
    return split(text, level)


def _float(score: Decimal | None) -> float:
    return float("nan") if score is None else float(score)


@dataclass(frozen=True)
class Case:
    """A text, the tags of its prompt, and the labels of exactly the statements that it breaks."""

    text: str
    broken: frozenset[str]
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return self.text[:40]


def read_cases(path: Path) -> Iterator[Case]:
    """A text may be a list of parts, so that no file holds what a scanner takes for a secret."""
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert set(record) <= {"text", "on", "tags"}, line
        text = record["text"] if isinstance(record["text"], str) else "".join(record["text"])
        yield Case(text, frozenset(record.get("on", ())), record.get("tags", {}))


class Judge:
    """A policy with its scorers."""

    def __init__(self, path: Path) -> None:
        self.source = read_source(path)
        self.checked = check_source(self.source).require()
        self.compiled = compile_source(self.source)
        records = [a for a in self.compiled.ir.attributes if a.backend and a.backend.kind in TORCH_FREE]
        known = msgspec.structs.replace(self.compiled.ir, attributes=tuple(records))
        self.scorers = bind_scorers(known, {}, folder=path.parent, files=self.compiled.files)

    @property
    def labels(self) -> list[str]:
        return [s.label or s.text for s in self.checked.statements]

    @cached_property
    def tests(self) -> list[n.Test]:
        return [item for item in check_source(self.source).tree.items if isinstance(item, n.Test)]

    def scores(self, text: str) -> Scores:
        """The scores of a text; None for attributes that only a classifier measures."""
        found: Scores = dict.fromkeys(self.checked.attributes)
        for name, scorer in self.scorers.items():
            (value,) = scorer(prompts=[""], completions=[text])
            found[name] = None if value is None else Decimal(repr(value))
        return found

    def response(self, text: str) -> Response:
        """A text as the reference sees it: its scores, and by level those of its parts."""
        levels = parts_needed(self.compiled.ir.clauses)
        return Response(
            self.scores(text), {level: [self.scores(p) for p in _parts(text, level)] for level in levels}
        )

    def statement(self, label: str) -> CheckedStatement:
        return next(s for s in self.checked.statements if s.label == label)

    def in_scope(self, statement: CheckedStatement, tags: Mapping[str, str]) -> bool:
        return statement.domain is None or matches(lower_domain(statement.domain), tags)

    def truth(self, statement: CheckedStatement, response: Response) -> bool | None:
        """By the reference interpreter; the compiled checkers must agree."""
        found = evaluate(statement.formula, response)
        clause = next(c for c in self.compiled.ir.clauses if c.label == statement.label)
        arrays = {k: np.array([_float(x)]) for k, x in response.scores.items()}
        parts = {
            level: PartScores(
                np.array([len(trace)]),
                {
                    k: np.array([_float(part[k]) for part in trace])
                    for k in parts_needed([clause]).get(level, ())
                },
            )
            for level, trace in response.parts.items()
        }
        (violation,) = statistics([clause], arrays, parts)[0]
        assert (None if np.isnan(violation) else violation == 0) == found, (statement.text, response)
        return found

    def broken(self, text: str, tags: Mapping[str, str]) -> set[str]:
        """The labels of the pointwise statements in scope that a text certainly breaks."""
        response = self.response(text)
        return {
            s.label or s.text
            for s in self.checked.statements
            if s.reading == "pointwise" and self.in_scope(s, tags) and self.truth(s, response) is False
        }

    def verdict(self, label: str, series: Mapping[str, Sequence[Decimal]]) -> str:
        """Of one statement alone on a stubbed sample."""
        clause = next(c for c in self.compiled.ir.clauses if c.label == label)
        arrays = {name: np.array([float(x) for x in values]) for name, values in series.items()}
        column = statistics([clause], arrays)[:, 0]
        alpha = 1 - float(clause.confidence)
        return verify_clause(clause, column, alpha=alpha, single_sample=True).verdict

    def run_test(self, test: n.Test) -> list[str]:
        """What went otherwise than an in-file test expects."""
        stubs = {item.name: item.value for item in test.items if isinstance(item, n.Given)}
        wrong: list[str] = []
        for item in test.items:
            if not isinstance(item, n.Expect):
                continue
            if item.outcome in ("pass", "fail"):
                chosen = [s for s in self.checked.statements if item.on in (None, s.label)]
                own = self.response(item.text or "")
                given = {k: x for k, x in stubs.items() if isinstance(x, Decimal)}
                response = Response({**own.scores, **given}, own.parts)
                passed = all(self.truth(s, response) is True for s in chosen if s.reading == "pointwise")
                if not any(s.reading == "pointwise" for s in chosen) or passed != (item.outcome == "pass"):
                    wrong.append(f"{test.name}: expected `{item.outcome} {item.text!r} on {item.on}`")
            else:
                series = {k: x for k, x in stubs.items() if isinstance(x, tuple)}
                found = self.verdict(item.on or self.labels[0], series)
                if found != item.outcome:
                    wrong.append(f"{test.name}: expected {item.outcome} on {item.on}, got {found}")
        return wrong
