"""What ``compile --emit dfa`` prints: the automata of a policy's conditions about order and about wording."""

from __future__ import annotations

from constraintlang_compiler.artifact_monitors import monitors
from constraintlang_compiler.canonical import Json, record_json
from constraintlang_compiler.ir import Indicator, PolicyIR
from constraintlang_compiler.monitors.budget import Budget, BudgetExceeded
from constraintlang_compiler.monitors.regex_parser import RegexError
from constraintlang_compiler.monitors.response_language import NotLexical, response_language
from constraintlang_compiler.scopes import sample_clauses


def automata_json(ir: PolicyIR) -> Json:
    """``traces``: by hash, for each ``over``. ``texts``: by clause id, the texts that *violate* the clause, where
    the wording decides that; ``no_text_automaton`` says for each other clause why it has none.
    """
    traces: dict[str, Json] = {key: record_json(record) for key, record in monitors(ir.clauses).items()}
    texts: dict[str, Json] = {}
    reasons: dict[str, Json] = {}
    attributes = {attribute.name: attribute for attribute in ir.attributes}
    for clause in sample_clauses(ir):
        if not isinstance(clause.statistic, Indicator):
            reasons[clause.id] = "it is about an average, not about single responses"
            continue
        try:
            found = response_language(clause.statistic.predicate, attributes, Budget())
            texts[clause.id] = record_json(found.record())
        except (NotLexical, RegexError, BudgetExceeded) as error:
            reasons[clause.id] = str(error)
    return {"traces": traces, "texts": texts, "no_text_automaton": reasons}
