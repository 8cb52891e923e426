"""The work that the automata of one policy take together: each is bounded, and so is their sum."""

from __future__ import annotations

from constraintlang.checked import CheckedStatement
from constraintlang.nodes import NO_SPAN, Over
from constraintlang.tree import descendants
from constraintlang_compiler.attributes import overs_of, predicates_of
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.monitors.budget import MAX_POLICY_STEPS, MAX_STEPS
from constraintlang_compiler.rejection import Rejection


class AutomataWork:
    """Counts the steps of the automata of a policy, statement after statement.

    An automaton counts as often as it is asked for, although it is made once: what a policy costs must not depend
    on what was compiled before it.
    """

    def __init__(self) -> None:
        self._steps = 0

    def spend(self, clause: Clause) -> None:
        """Count the automata of a clause."""
        for over in overs_of(predicates_of(clause)):
            from constraintlang_compiler.monitors.trace_monitors import trace_monitor

            self._steps += trace_monitor(over.formula, over.empty).steps

    def refused(self, rejection: Rejection) -> None:
        """Count an automaton that was given up."""
        if rejection.code == "PC305":
            self._steps += MAX_STEPS

    def require_left(self, statement: CheckedStatement) -> None:
        """Raise Rejection PC305 for a statement with ``over`` when nothing is left."""
        if self._steps <= MAX_POLICY_STEPS:
            return
        if any(isinstance(node, Over) for node in descendants(statement.formula)):
            raise Rejection(
                "PC305",
                f"the automata of the statements above take more than {MAX_POLICY_STEPS:,} steps of work",
                help="use smaller bounds or fewer conditions in the statements with `over`",
                span=statement.span or NO_SPAN,
            )
