"""Scores of one text and of its sentences or turns, for statements about order that are judged on texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from constraintlang import nodes as n
from constraintlang.checked import CheckedPolicy
from constraintlang.segments import split
from constraintlang.semantics import Response, score_key
from constraintlang.tree import names_in, overs_in
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.text_scores import TextScores, gather

PartScores = Mapping[str, Sequence[Mapping[str, Decimal | None]]]
Score = Callable[[str, Sequence[str]], Sequence[Decimal | None] | None]


def score_parts(formulas: Iterable[n.Formula], text: str | None, score: Score) -> PartScores:
    """By level, the scores of the parts that the formulas read; none without a text.

    ``score`` gives the scores of some texts under a name, or None where there are none: they are unknown then. The
    tokens of a text depend on a tokenizer and are left out.
    """
    if text is None:
        return {}
    wanted: dict[str, dict[str, None]] = {}
    for over in (over for formula in formulas for over in overs_in(formula) if over.level != "tokens"):
        wanted.setdefault(over.level, {}).update({score_key(name): None for name in names_in(over)})
    found = {}
    for level, keys in wanted.items():
        texts = split(text, level)
        columns = {key: score(key, texts) for key in keys} if texts else {}
        found[level] = [
            {key: None if values is None else values[i] for key, values in columns.items()}
            for i in range(len(texts))
        ]
    return found


def gather_response(
    policy: CheckedPolicy,
    names: Sequence[str],
    given: Mapping[str, Decimal | None],
    source: TextScores,
    text: str | None,
) -> tuple[Response, dict[str, str]]:
    """``gather`` with the parts that the statements about single responses read.

    Raises: ModelError when a scorer cannot be loaded, ScorerError when one fails.
    """
    scores, problems = gather(names, given, source, text)

    def score(name: str, texts: Sequence[str]) -> list[Decimal | None] | None:
        try:
            values = source.score(name, texts)
        except ConfigError as error:
            problems[name] = error.message + (f" ({error.help})" if error.help else "")
            return None
        if None in values:
            problems[name] = f"the scorer of `{name}` has no score for a part of this text"
        return values

    formulas = [statement.formula for statement in policy.statements if statement.reading == "pointwise"]
    return Response(scores, score_parts(formulas, text, score)), problems
