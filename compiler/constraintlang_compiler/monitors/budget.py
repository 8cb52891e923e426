"""How large an automaton may grow and how much work may go into it: a policy is untrusted text.

Work is counted in steps, not in seconds, so that a policy that compiles on one machine compiles on all.
"""

from __future__ import annotations

MAX_STATES = 10_000
MAX_LETTERS = 4_096
MAX_ENTRIES = 1_000_000  # states times letters: what a table may hold
MAX_STEPS = 4_000_000  # of an automaton over texts
MAX_TRACE_STEPS = 1_000_000  # of an automaton over parts, which `check` makes: a step takes some microseconds
MAX_POLICY_STEPS = (
    1_500_000  # all automata over parts of a policy together: some seconds, twice that in both senses
)


class BudgetExceeded(Exception):
    """An automaton outgrew its budget; the message says which limit it met, in words, ``steps`` the work until then."""

    steps = 0


class Budget:
    """What is left; every method raises BudgetExceeded when it is used up."""

    def __init__(
        self, *, max_states: int = MAX_STATES, max_entries: int = MAX_ENTRIES, max_steps: int = MAX_STEPS
    ) -> None:
        self.max_states = max_states
        self.max_entries = max_entries
        self.max_steps = max_steps
        self.steps = 0

    def spend(self, steps: int = 1) -> None:
        """Count work."""
        self.steps += steps
        if self.steps > self.max_steps:
            raise BudgetExceeded(f"more than {self.max_steps:,} steps of work")

    def check_size(self, num_states: int, num_letters: int) -> None:
        """Check the table of an automaton, before or while it is filled."""
        if num_letters > MAX_LETTERS:
            raise BudgetExceeded(f"more than {MAX_LETTERS:,} combinations of conditions")
        if num_states > self.max_states:
            raise BudgetExceeded(f"more than {self.max_states:,} states")
        if num_states * num_letters > self.max_entries:
            raise BudgetExceeded(f"a table of more than {self.max_entries:,} entries")
