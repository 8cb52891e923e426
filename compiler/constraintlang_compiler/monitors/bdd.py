"""Reduced ordered binary decision diagrams: propositional formulas that are equal exactly when equivalent.

Nodes are integers; 0 is false and 1 is true. Nothing recurses: a diagram may be thousands of variables deep.
"""

from __future__ import annotations

from constraintlang_compiler.monitors.budget import Budget

FALSE, TRUE = 0, 1
_LEAF = 1 << 60  # the variable of the two constants: below every other one
_BITS = 24  # of a node in a packed key; a budget ends long before


class Diagrams:
    """A store of nodes over numbered variables, the smallest number on top."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._variable = [_LEAF, _LEAF]
        self._low = [FALSE, TRUE]
        self._high = [FALSE, TRUE]
        self._when_all_false = [False, True]
        self._nodes: dict[tuple[int, int, int], int] = {}
        self._known: dict[int, int] = {}  # packed (test, then, otherwise) -> node

    def variable(self, number: int) -> int:
        """The formula that is true exactly when the variable is."""
        return self._node(number, FALSE, TRUE)

    def parts(self, node: int) -> tuple[int, int, int]:
        """The topmost variable, the formula where it is false, and the formula where it is true."""
        return self._variable[node], self._low[node], self._high[node]

    def negation(self, node: int) -> int:
        """``not node``."""
        return self.if_then_else(node, FALSE, TRUE)

    def conjunction(self, left: int, right: int) -> int:
        """``left and right``; the order of the two does not matter."""
        return self.if_then_else(min(left, right), max(left, right), FALSE)

    def disjunction(self, left: int, right: int) -> int:
        """``left or right``; the order of the two does not matter."""
        return self.if_then_else(min(left, right), TRUE, max(left, right))

    def if_then_else(self, test: int, then: int, otherwise: int) -> int:
        """``(test and then) or (not test and otherwise)``."""
        variable, low, high, known = self._variable, self._low, self._high, self._known
        stack = [(test, then, otherwise)]
        while stack:
            a, b, c = stack[-1]
            if self._find(a, b, c) is not None:
                stack.pop()
                continue
            self._budget.spend()
            top = min(variable[a], variable[b], variable[c])
            zero = tuple(low[node] if variable[node] == top else node for node in (a, b, c))
            one = tuple(high[node] if variable[node] == top else node for node in (a, b, c))
            below, above = self._find(*zero), self._find(*one)
            if below is None:
                stack.append(zero)  # type: ignore[arg-type]  # a triple
            if above is None:
                stack.append(one)  # type: ignore[arg-type]  # a triple
            if below is not None and above is not None:
                known[_packed(a, b, c)] = self._node(top, below, above)
                stack.pop()
        result = self._find(test, then, otherwise)
        assert result is not None
        return result

    def when_all_false(self, node: int) -> bool:
        """The value of a formula when every variable is false."""
        return self._when_all_false[node]

    def _node(self, variable: int, low: int, high: int) -> int:
        if low == high:
            return low
        key = (variable, low, high)
        if key not in self._nodes:
            self._budget.spend()
            self._nodes[key] = len(self._variable)
            self._variable.append(variable)
            self._low.append(low)
            self._high.append(high)
            self._when_all_false.append(self._when_all_false[low])
        return self._nodes[key]

    def _find(self, test: int, then: int, otherwise: int) -> int | None:
        """The result where it needs no work, or is known."""
        if test == TRUE or then == otherwise:
            return then
        if test == FALSE:
            return otherwise
        if then == TRUE and otherwise == FALSE:
            return test
        return self._known.get(_packed(test, then, otherwise))


def _packed(test: int, then: int, otherwise: int) -> int:
    # One integer and not three in a tuple: millions of tuples keep the garbage collector busy.
    return (test << 2 * _BITS) | (then << _BITS) | otherwise
