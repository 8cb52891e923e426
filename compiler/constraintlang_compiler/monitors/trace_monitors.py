"""The automaton of a trace formula as a file, and as a machine that reads the scores of many traces at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.attributes import parts_predicates
from constraintlang_compiler.ir_monitors import AnyScale, FlagScale, TraceAutomaton, TraceFormula
from constraintlang_compiler.ir_terms import Comparison, Const, FlagRef
from constraintlang_compiler.monitors.budget import MAX_TRACE_STEPS, Budget, BudgetExceeded
from constraintlang_compiler.monitors.dfa import Dfa
from constraintlang_compiler.monitors.letters import Alphabet, alphabet_of, without_idle_cuts
from constraintlang_compiler.monitors.progression import automaton
from constraintlang_compiler.monitors.trace_values import UNKNOWN, trace_value

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Evaluate = Callable[[Comparison | FlagRef], Floats]


@dataclass(frozen=True, eq=False)
class TraceMonitor:
    """The minimal automaton of a formula over the conditions that matter to it."""

    formula: TraceFormula
    empty: bool
    alphabet: Alphabet
    dfa: Dfa
    steps: int
    """The work that it took to build."""

    def record(self) -> TraceAutomaton:
        """The content of its file: equal for formulas with equal languages."""
        return TraceAutomaton(
            scales=self.alphabet.scales,
            accepting=tuple(np.flatnonzero(self.dfa.accepting).tolist()),
            table=tuple(map(tuple, self.dfa.table.tolist())),
        )

    @cached_property
    def content(self) -> bytes:
        """The canonical JSON of its file; names and numbers are ASCII, so sorting the keys is all that it takes."""
        return msgspec.json.encode(self.record(), order="sorted")

    @cached_property
    def hash(self) -> str:
        """The hash of its file."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def letters(self, evaluate: Evaluate) -> Ints:
        """The letter of every part, from the known truth values of predicates: int64 [parts]."""
        letters = np.zeros(1, dtype=np.int64)
        for scale, size in zip(self.alphabet.scales, self.alphabet.sizes, strict=True):
            letters = letters * size + _region(scale, evaluate)
        return letters

    def final_states(self, letters: Ints, lengths: Ints) -> Ints:
        """The state after each trace.

        Shapes: ``letters`` [sum of lengths], trace after trace; ``lengths`` [n] -> int64 [n].
        """
        states = np.zeros(len(lengths), dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        # Longest first: the traces that are still running at a position are then a beginning of the list.
        order = np.argsort(-lengths, kind="stable")
        running = np.searchsorted(-lengths[order], -np.arange(int(lengths.max(initial=0))), side="left")
        for position, count in enumerate(running.tolist()):
            active = order[:count]
            states[active] = self.dfa.table[states[active], letters[starts[active] + position]]
        return states

    def truth(self, evaluate: Evaluate, lengths: Ints) -> Floats:
        """The truth value of the formula on each trace: 1, 0, or ``nan`` for unknown [n].

        ``evaluate`` gives the truth values of a predicate on all parts [sum of lengths], ``nan`` for unknown.
        """
        truths = {predicate: evaluate(predicate) for predicate in parts_predicates(self.formula)}
        total = int(lengths.sum())
        unknown = np.zeros(total, dtype=np.bool_)
        for values in truths.values():
            unknown |= np.isnan(values)
        letters = np.broadcast_to(self.letters(evaluate), total)
        states = self.final_states(np.where(unknown, 0, letters), lengths)
        result = self.dfa.accepting[states].astype(np.float64)
        ends = np.cumsum(lengths)
        for i in np.unique(np.repeat(np.arange(len(lengths)), lengths)[unknown]).tolist():
            part = slice(int(ends[i] - lengths[i]), int(ends[i]))
            known = {p: np.where(np.isnan(v[part]), UNKNOWN, v[part]) for p, v in truths.items()}
            value = trace_value(self.formula, known, int(lengths[i]))
            result[i] = np.nan if value == UNKNOWN else value
        return result


@lru_cache(maxsize=1024)
def trace_monitor(formula: TraceFormula, empty: bool) -> TraceMonitor:
    """The monitor of a formula; ``empty`` is its value on the empty trace.

    Raises: BudgetExceeded.
    """
    budget = Budget(max_steps=MAX_TRACE_STEPS)
    alphabet = alphabet_of(formula)
    try:
        dfa = automaton(formula, empty, alphabet, budget)
    except BudgetExceeded as error:
        error.steps = budget.steps
        raise
    return TraceMonitor(formula, empty, *without_idle_cuts(alphabet, dfa), budget.steps)


def _region(scale: AnyScale, evaluate: Evaluate) -> Ints:
    """The region of every part on one scale: the number of cuts that it does not lie below."""
    if isinstance(scale, FlagScale):
        return (evaluate(FlagRef(name=scale.name)) == 1).astype(np.int64)
    region = np.zeros(1, dtype=np.int64)
    for cut in scale.cuts:
        right = Const(value=cut.value) if scale.right is None else scale.right
        region = region + (evaluate(Comparison(op=cut.op, left=scale.left, right=right)) == 0)
    return region
