"""From a trace formula to its automaton by progression: what must hold of the rest once a letter was read.

A state is a propositional formula over *obligations* about the rest, kept as a decision diagram, so that states
that are equivalent as propositions are one state. Obligations are all of one kind: they ask for a part, hence
are false on the empty rest; what does not is the negation of one that does.

    now p           the rest begins with a part where p is true        after a letter: true or false
    some            the rest is not empty                              true
    eventually f    f holds at some position                           f' or eventually f
    f until g       g holds at some position and f before it           g' or (f' and f until g)
    ahead(n, f)     there is a position n, and f holds there           ahead(n-1, f); ahead(0, f) = some and f

where f' is f after the letter. A window ``eventually[2, 5] f`` is ``ahead(2, f) or ... or ahead(5, f)``: the
diagram then sees by itself that a tighter window implies a wider one.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from constraintlang_compiler.ir_monitors import (
    Both,
    Either,
    Eventually,
    Globally,
    Now,
    Release,
    TraceFormula,
    Until,
)
from constraintlang_compiler.ir_terms import Literally
from constraintlang_compiler.monitors.bdd import FALSE, TRUE, Diagrams
from constraintlang_compiler.monitors.budget import Budget, BudgetExceeded
from constraintlang_compiler.monitors.dfa import Dfa, Ints
from constraintlang_compiler.monitors.letters import Alphabet

Letter = tuple[int, ...]  # the region of each scale
Obligation = tuple[str, int, int]

_BANDS = {"eventually": 1, "until": 1, "ahead": 2, "now": 3, "some": 4}
_BAND = 1 << 40


class Progression:
    """The obligations of one formula and what becomes of them."""

    def __init__(self, alphabet: Alphabet, budget: Budget) -> None:
        self._alphabet = alphabet
        self._budget = budget
        self._diagrams = Diagrams(budget)
        self._obligations: dict[int, Obligation] = {}
        self._numbers: dict[Obligation, int] = {}
        self._predicates: list[tuple[int, frozenset[int]]] = []
        self._scales: dict[int, frozenset[int]] = {}
        self._after: dict[tuple[int, Letter], int] = {}
        self._some = self._obligation("some")

    # ------------------------------------------------------------ formulas
    def start_of(self, formula: TraceFormula, empty: bool) -> int:
        """The formula where there is a part, ``empty`` where there is none."""
        d = self._diagrams
        return d.if_then_else(self._some, self.state_of(formula), TRUE if empty else FALSE)

    def state_of(self, formula: TraceFormula) -> int:
        """The formula as a proposition over obligations."""
        d = self._diagrams
        match formula:
            case Literally(value=value):
                return TRUE if value else FALSE
            case Now(predicate=predicate):
                place = self._alphabet.regions(predicate)
                self._budget.spend(len(place[1]))
                if place not in self._predicates:
                    self._predicates.append(place)
                return self._obligation("now", self._predicates.index(place))
            case Both(operands=operands):
                node = TRUE
                for operand in operands:
                    node = d.conjunction(node, self.state_of(operand))
                return node
            case Either(operands=operands):
                node = FALSE
                for operand in operands:
                    node = d.disjunction(node, self.state_of(operand))
                return node
            case Eventually(operand=operand, low=low, high=high):
                return self._window(self.state_of(operand), low, high)
            case Globally(operand=operand, low=low, high=high):
                return d.negation(self._window(d.negation(self.state_of(operand)), low, high))
            case Until(left=left, right=right):
                return self._obligation("until", self.state_of(left), self.state_of(right))
            case Release(left=left, right=right):
                sides = d.negation(self.state_of(left)), d.negation(self.state_of(right))
                return d.negation(self._obligation("until", *sides))

    def _window(self, node: int, low: int, high: int | None) -> int:
        if high is None:
            return self._ahead(low, self._obligation("eventually", node))
        if high > self._budget.max_states:
            # Whether position `high` exists takes so many states to know.
            raise BudgetExceeded(f"more than {self._budget.max_states:,} states")
        result = FALSE
        for distance in range(low, high + 1):
            result = self._diagrams.disjunction(result, self._ahead(distance, node))
        return result

    def _ahead(self, distance: int, node: int) -> int:
        if distance > self._budget.max_states:
            raise BudgetExceeded(f"more than {self._budget.max_states:,} states")
        if distance == 0:
            return self._diagrams.conjunction(self._some, node)
        return self._obligation("ahead", distance, node)

    def _obligation(self, kind: str, first: int = 0, second: int = 0) -> int:
        key = (kind, first, second)
        if key not in self._numbers:
            # What lasts goes on top, the outermost of it first; below it what is farthest ahead, so that a
            # window that closes step by step is a chain of which every state is a tail.
            number = _BANDS[kind] * _BAND - len(self._numbers)
            self._numbers[key] = number
            self._obligations[number] = key
        return self._diagrams.variable(self._numbers[key])

    # ------------------------------------------------------------ steps
    def may_end(self, node: int) -> bool:
        """Whether the empty rest satisfies a state: every obligation asks for a part."""
        return self._diagrams.when_all_false(node)

    def scales_read(self, node: int) -> frozenset[int]:
        """The scales on which the step from a state depends."""
        stack = [node]
        while stack:
            inner = stack[-1]
            if inner in self._scales:
                stack.pop()
            elif inner <= TRUE:
                self._scales[inner] = frozenset()
            else:
                variable, low, high = self._diagrams.parts(inner)
                missing = [child for child in (low, high) if child not in self._scales]
                stack.extend(missing)
                if not missing:
                    own = self._scales_of(self._obligations[variable])
                    self._scales[inner] = own | self._scales[low] | self._scales[high]
        return self._scales[node]

    def _scales_of(self, obligation: Obligation) -> frozenset[int]:
        kind, first, second = obligation
        if kind == "now":
            return frozenset({self._predicates[first][0]})
        if kind == "until":
            return self.scales_read(first) | self.scales_read(second)
        return self.scales_read(first) if kind == "eventually" else frozenset()

    def after(self, node: int, letter: Letter) -> int:
        """What must hold of the rest when the first letter of what satisfies ``node`` was ``letter``."""
        stack = [node]
        while stack:
            inner = stack[-1]
            if (inner, letter) in self._after:
                stack.pop()
            elif inner <= TRUE:
                self._after[inner, letter] = inner
            else:
                variable, low, high = self._diagrams.parts(inner)
                missing = [child for child in (low, high) if (child, letter) not in self._after]
                stack.extend(missing)
                if not missing:
                    self._budget.spend()
                    self._after[inner, letter] = self._diagrams.if_then_else(
                        self._obligation_after(variable, letter),
                        self._after[high, letter],
                        self._after[low, letter],
                    )
        return self._after[node, letter]

    def _obligation_after(self, variable: int, letter: Letter) -> int:
        d = self._diagrams
        kind, first, second = self._obligations[variable]
        if kind == "some":
            return TRUE
        if kind == "now":
            scale, regions = self._predicates[first]
            return TRUE if letter[scale] in regions else FALSE
        if kind == "ahead":
            return self._ahead(first - 1, second)
        goes_on = d.variable(variable)
        if kind == "eventually":
            return d.disjunction(self.after(first, letter), goes_on)
        return d.disjunction(self.after(second, letter), d.conjunction(self.after(first, letter), goes_on))


def automaton(formula: TraceFormula, empty: bool, alphabet: Alphabet, budget: Budget) -> Dfa:
    """The minimal automaton of the traces that satisfy a formula, and of the empty trace if ``empty``.

    Raises: BudgetExceeded.
    """
    sizes = alphabet.sizes
    budget.check_size(1, alphabet.num_letters)
    progression = Progression(alphabet, budget)
    start = progression.start_of(formula, empty)
    found = {start: 0}
    states = [start]
    rows: list[Ints] = []
    while len(rows) < len(states):
        state = states[len(rows)]
        read = progression.scales_read(state)
        row = np.zeros(sizes, dtype=np.int32)
        for letter in product(*(range(size) if scale in read else (0,) for scale, size in enumerate(sizes))):
            target = progression.after(state, letter)
            if target not in found:
                found[target] = len(states)
                states.append(target)
                budget.check_size(len(states), alphabet.num_letters)
            place = tuple(r if scale in read else slice(None) for scale, r in enumerate(letter))
            row[place] = found[target]
        budget.spend(row.size)
        rows.append(row.reshape(-1))
    accepting = np.array([progression.may_end(state) for state in states])
    return Dfa(np.stack(rows), accepting).minimal()
