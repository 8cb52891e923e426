"""People's labels beside the scorer: bounds that hold for what people say, and where the scorer cries wolf."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from constraintlang_compiler.bounds import (
    Bounds,
    betting_lower,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from constraintlang_compiler.clean_bounds import corrected_alpha
from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_runtime.bet_order import bet_keys, bet_order
from constraintlang_runtime.deciding import decide
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.evaluation import Evaluation
from constraintlang_runtime.evidence import SEPARATOR
from constraintlang_runtime.prediction_powered import prediction_powered_bounds
from constraintlang_runtime.score.row_stream import require_cells
from constraintlang_runtime.verdicts import Verdict
from constraintlang_runtime.verify_sums import is_sum
from constraintlang_runtime.verify_tails import is_tail

_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
METHOD = "prediction-powered or the labels alone, betting"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Label:
    """One person's judgement; of every clause when ``clause`` is None."""

    line: int
    key: object  # (prompt, completion), or the row of a completions file
    clause: str | None
    violates: bool


def read_labels(path: Path) -> list[Label]:
    """Labels from a CSV file with a header: ``prompt`` and ``completion``, or ``row``; ``violates``; ``clause`` if any.

    Raises: DataError for a file of another form, with the line.
    """
    help_text = (
        "give the columns prompt, completion (or row), violates (0 or 1), and clause where labels are of one"
    )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = set(reader.fieldnames or ())
            by_row = "row" in columns
            if "violates" not in columns or not (by_row or {"prompt", "completion"} <= columns):
                raise DataError(
                    f"`{path}` has the columns {sorted(columns)}", help=help_text, parameter="human"
                )
            return [_label(row, reader.line_num, by_row, path) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read `{path}`: {error}", help=help_text, parameter="human") from error


def _label(row: dict[Any, Any], line: int, by_row: bool, path: Path) -> Label:
    require_cells(row, f"line {line} of `{path}`", "human")
    said = (row.get("violates") or "").strip().lower()
    if said not in _YES | _NO:
        raise DataError(
            f"line {line} of `{path}` has violates={said!r}, expected 0 or 1",
            help="leave out the rows without a label",
            parameter="human",
        )
    if by_row:
        text = (row.get("row") or "").strip()
        if not text.isdecimal():
            raise DataError(
                f"line {line} of `{path}` has row={text!r}, expected a number",
                help="rows count from 0",
                parameter="human",
            )
        return Label(line, int(text), row.get("clause") or None, said in _YES)
    key = (row.get("prompt") or "", row.get("completion") or "")
    return Label(line, key, row.get("clause") or None, said in _YES)


@dataclass(frozen=True)
class People:
    """The labels and the identity terms of one evaluation; without labels nothing is added."""

    labels: Sequence[Label] = ()
    terms: Sequence[str] = ()

    def check(self, clauses: Sequence[Clause]) -> None:
        """Raise DataError for labels of a clause that does not exist, or that contradict each other."""
        _check_labels(clauses, self.labels)

    def beside(self, found: Evaluation, num_clauses: int) -> Evaluation:
        """The evaluation with ``human`` beside its verdicts."""
        if not self.labels:
            return found
        said = judge_by_people(
            found.clauses, found.verdicts, found.samples, self.labels, num_clauses=num_clauses, terms=self.terms
        )  # fmt: skip
        return replace(found, beside={**found.beside, "human": said})


def read_people(human: str | None, identity_terms: str | None) -> People:
    """The files of ``--human`` and ``--identity_terms``, read before anything else is done.

    Raises: DataError and ConfigError as ``read_labels`` and ``read_terms``; ConfigError for terms without labels.
    """
    if human is None:
        if identity_terms is not None:
            raise ConfigError(
                "which responses with a term are clean is for people to say",
                help="add --human labels.csv",
                parameter="identity_terms",
            )
        return People()
    labels = read_labels(Path(human))
    if not labels:
        raise DataError(
            f"`{human}` has no labels", help="give a file with at least one row", parameter="human"
        )
    return People(labels, read_terms(Path(identity_terms)) if identity_terms is not None else ())


def judge_by_people(
    clauses: Sequence[Clause],
    verdicts: Sequence[Verdict],
    records: Sequence[Record],
    labels: Sequence[Label],
    *,
    num_clauses: int,
    terms: Sequence[str] = (),
) -> dict[str, Any]:
    """For each clause on a share of responses that has labels: bounds of what people would say, beside its verdict.

    ``verdict`` is decided at the clause's share of the error, by ``prediction_powered_bounds`` and the labels alone,
    the better of the two at half of it each; prompts with different numbers of responses have no bounds. ``agreement``
    is of labels with the scorer. With ``terms``, ``identity_terms`` is the false-positive slice: among the labelled
    responses that hold one of the terms and are clean to people, the rate at which the scorer says violation.
    ``unmatched_labels`` counts labels of no response.
    Raises: DataError for a clause that does not exist or is labelled twice over.
    """
    _check_labels(clauses, labels)
    by_clause: dict[str, list[Record]] = {}
    for record in records:
        by_clause.setdefault(record["clause"], []).append(record)
    found, used = [], set()
    for clause in clauses:
        if not isinstance(clause.statistic, Indicator) or is_sum(clause) or is_tail(clause):
            continue
        own = by_clause.get(clause.name, [])
        pairs = _labelled(own, _labels_of(clause, labels))
        known = {key for record in own for key in _keys(record)}
        used |= {label.line for label in labels if label.clause in (None, clause.name) and label.key in known}
        if pairs:
            verdict = next(one for one in verdicts if one.id == clause.id)
            found.append(_beside(clause, verdict, own, pairs, num_clauses, terms))
    return {"clauses": found, "num_labels": len(labels), "unmatched_labels": len(labels) - len(used)}


def require_matched(human: Mapping[str, Any] | None) -> None:
    """Raise DataError when no label fits a response; after the evaluation was kept, which took longer."""
    if human and human["num_labels"] == human["unmatched_labels"]:
        raise DataError(
            f"none of the {human['num_labels']:,} labels is of a response that was judged",
            help="label responses of samples.jsonl and evaluate with the same seed and settings, or with --completions",
            parameter="human",
        )


def _check_labels(clauses: Sequence[Clause], labels: Sequence[Label]) -> None:
    names = {clause.name for clause in clauses}
    for label in labels:
        if label.clause is not None and label.clause not in names:
            raise DataError(
                f"line {label.line} labels the clause `{label.clause}`, which is not judged",
                help=f"the clauses are {', '.join(sorted(names))}",
                parameter="human",
            )
    for clause in clauses:
        _labels_of(clause, labels)


def _labels_of(clause: Clause, labels: Sequence[Label]) -> dict[object, tuple[bool, int]]:
    """What was said of a response, and in how many lines; those that name the clause win over those that name none."""
    said: dict[object, tuple[bool, int]] = {}
    for named in (False, True):
        seen: dict[object, list[Label]] = {}
        for label in labels:
            if (label.clause is not None) is named and label.clause in (None, clause.name):
                seen.setdefault(label.key, []).append(label)
                other = seen[label.key][0]
                if other.violates != label.violates:
                    raise DataError(
                        f"lines {other.line} and {label.line} contradict each other",
                        help="keep one label of each response, such as that of the majority",
                        parameter="human",
                    )
        said |= {key: (found[0].violates, len(found)) for key, found in seen.items()}
    return said


def _labelled(own: Sequence[Record], said: Mapping[object, tuple[bool, int]]) -> list[tuple[Record, bool]]:
    """The responses that people labelled, with what they said.

    A line is of one response, however many say the same: were all of them labelled by it, the sample would be made of
    the texts that occur most often.
    """
    left = {key: lines for key, (_, lines) in said.items()}
    pairs = []
    for record in own:
        for key in _keys(record):
            if left.get(key):
                left[key] -= 1
                pairs.append((record, said[key][0]))
    return pairs


def _keys(record: Record) -> list[object]:
    text = (record["prompt"], record["completion"])
    return [text] if "row" not in record else [text, record["row"]]


def _beside(
    clause: Clause, verdict: Verdict, own: Sequence[Record], pairs: Sequence[tuple[Record, bool]], num_clauses: int,
    terms: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    alpha = corrected_alpha(float(clause.confidence), num_clauses)
    judged = [(record, label) for record, label in pairs if record["statistic"] is not None]
    rectifier = _by_prompt([(record, float(label) - _score(record, 0.0)) for record, label in pairs])

    def at(unknown: float) -> Bounds:
        """The bounds with every missing score as ``unknown``: labels rectify those, too."""
        rates = _by_prompt([(record, _score(record, unknown)) for record in own])
        differences = [(record, float(label) - _score(record, unknown)) for record, label in pairs]
        powered = prediction_powered_bounds(rates, _by_prompt(differences), alpha / 2)
        # where the scorer is poor, or nothing is found, the labels alone say more
        alone = _share_bounds([(record, float(label)) for record, label in pairs], alpha / 2)
        return Bounds(powered.estimate, max(powered.lower, alone.lower), min(powered.upper, alone.upper))

    clean, worst = at(0.0), at(1.0)
    bounds, method = Bounds(clean.estimate, clean.lower, worst.upper), METHOD
    if len(set(Counter(record["prompt_number"] for record in own).values())) > 1:
        # labels of random replies are mostly of prompts with many of them, and the prompt is what counts
        bounds, method = Bounds(math.nan, 0.0, 1.0), "none: the prompts have different numbers of replies"
    decided = decide(
        bounds.lower, bounds.upper, float(clause.bound), strict=clause.strict, direction="at_most"
    )
    if clause.hard:
        decided = "violated" if bounds.lower > 0 else "inconclusive"
    offset, scale = float(clause.shown.offset), clause.shown.scale
    ends = [offset + scale * value for value in (bounds.lower, bounds.upper)]
    shown = {"lower": min(ends), "upper": max(ends), "estimate": offset + scale * bounds.estimate}
    result: dict[str, Any] = {
        "clause": clause.name,
        "labelled": len(pairs),
        "labelled_prompts": len(rectifier),
        "agreement": float(np.mean([label == (record["statistic"] > 0) for record, label in judged]))
        if judged
        else None,
        **{key: value if np.isfinite(value) else None for key, value in shown.items()},
        "bound": offset + scale * float(clause.bound),
        "alpha": alpha,
        "method": method,
        "verdict": decided,
        "scorer_verdict": verdict.verdict,
    }
    if terms:
        result["identity_terms"] = _false_positives(judged, terms, alpha)
    return result


def _score(record: Record, unknown: float) -> float:
    """What the scorer says of a response."""
    return unknown if record["statistic"] is None else float(record["statistic"])


def _by_prompt(values: Sequence[tuple[Record, float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Means over the responses of each prompt [prompts], in the order in which they are bet on."""
    prompts: dict[int, list[tuple[Record, float]]] = {}
    for record, value in values:
        prompts.setdefault(record["prompt_number"], []).append((record, value))
    keys = bet_keys(
        SEPARATOR.join(sorted(SEPARATOR.join((one["prompt"], one["completion"])) for one, _ in group))
        for group in prompts.values()
    )
    means = [np.mean([value for _, value in group]) for group in prompts.values()]
    return np.array(means, dtype=np.float64)[bet_order(keys)]


def _false_positives(
    pairs: Sequence[tuple[Record, bool]], terms: Sequence[str], alpha: float
) -> dict[str, Any]:
    """The scorer's false positives among clean responses with and without a term; bounds over prompts."""
    pattern = re.compile(
        rf"(?<!\w)(?:{'|'.join(re.escape(term) for term in sorted(terms, key=len, reverse=True))})(?!\w)",
        re.IGNORECASE,
    )
    clean = [record for record, label in pairs if not label]
    slices: dict[str, list[tuple[Record, float]]] = {"with_term": [], "without_term": []}
    for record in clean:
        part = "with_term" if pattern.search(record["completion"]) else "without_term"
        slices[part].append((record, float(record["statistic"] > 0)))
    return {part: _slice(said, alpha) for part, said in slices.items()}


def _slice(said: Sequence[tuple[Record, float]], alpha: float) -> dict[str, Any]:
    """``rate`` is the mean over prompts of the share of their responses, of which the bounds are, too."""
    found = _share_bounds(said, alpha)
    return {
        "clean": len(said),
        "prompts": len({record["prompt_number"] for record, _ in said}),
        "false_positives": sum(value > 0 for _, value in said),
        "rate": found.estimate if said else None,
        "lower": found.lower,
        "upper": found.upper,
    }


def _share_bounds(said: Sequence[tuple[Record, float]], alpha: float) -> Bounds:
    """Bounds of the mean over prompts of what is 0 or 1 of their responses: exact where each has one, else by bets."""
    means = _by_prompt(said)
    if not len(means):
        return Bounds(math.nan, 0.0, 1.0)
    estimate, count = float(means.mean()), sum(value > 0 for _, value in said)
    if len(means) == len(said):
        exact = (bound(count, len(said), alpha) for bound in (clopper_pearson_lower, clopper_pearson_upper))
        return Bounds(estimate, *exact)
    return Bounds(estimate, betting_lower(means, alpha), betting_upper(means, alpha))


def read_terms(path: Path) -> list[str]:
    """One term a line; empty lines and lines that begin with `#` are no terms.

    Raises: ConfigError for a file that cannot be read or has no terms.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read `{path}`: {error}", help="one term a line, in UTF-8", parameter="identity_terms"
        ) from error
    terms = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not terms:
        raise ConfigError(f"`{path}` has no terms", help="write one term a line", parameter="identity_terms")
    return terms
