"""The work that the automata of one policy take together: each is bounded, and so is their sum."""

from __future__ import annotations

from constraintlang.checked import CheckedStatement
from constraintlang.nodes import NO_SPAN, Over
from constraintlang.tree import descendants
from constraintlang_compiler.attributes import overs_of
from constraintlang_compiler.lower_terms import lower_predicate
from constraintlang_compiler.monitors.budget import MAX_POLICY_STEPS, BudgetExceeded
from constraintlang_compiler.rejection import Rejection


class AutomataWork:
    """Counts the steps of the automata of a policy, condition after condition.

    An automaton counts as often as it is asked for, although it is made once: what a policy costs must not depend
    on what was compiled before it.
    """

    def __init__(self) -> None:
        self._steps = 0

    def spend(self, statement: CheckedStatement) -> None:
        """Make and count the automata of a statement, which lowering then finds made.

        Where a condition is lowered in both senses the other one costs about as much again, and is not counted.
        Raises: Rejection PC305 for an automaton that is too large, or once nothing is left.
        """
        negated = statement.reading == "pointwise"  # its clause is about the violations
        for node in descendants(statement.formula):
            if not isinstance(node, Over):
                continue
            if self._steps > MAX_POLICY_STEPS:
                raise Rejection(
                    "PC305",
                    f"the automata up to here take more than {MAX_POLICY_STEPS:,} steps of work",
                    help="use smaller bounds or fewer conditions in the statements with `over`",
                    span=statement.span or NO_SPAN,
                )
            try:
                predicate = lower_predicate(node, negated=negated)
            except Rejection as rejection:
                if isinstance(rejection.__cause__, BudgetExceeded):
                    self._steps += rejection.__cause__.steps
                raise
            for over in overs_of([predicate]):
                from constraintlang_compiler.monitors.trace_monitors import trace_monitor

                self._steps += trace_monitor(over.formula, over.empty).steps
