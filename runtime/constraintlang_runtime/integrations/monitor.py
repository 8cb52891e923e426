"""A policy watching a response while it is written: verdicts of its statements as soon as nothing can change them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from constraintlang_compiler.attributes import parts_needed
from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_compiler.monitors.dfa import PrefixVerdict
from constraintlang_compiler.render import negation
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.integrations.watches import Late, Verdict, Watch, watch
from constraintlang_runtime.scorers.binding import word_list_reader

if TYPE_CHECKING:
    from constraintlang_runtime.integrations.policy import Policy


@dataclass(frozen=True)
class MonitorPlan:
    """What watches each of some clauses, made once for a policy."""

    clauses: tuple[Clause, ...]
    starts: tuple[Callable[[str], Watch], ...]
    """For each clause, from a prompt to a watch at the beginning of a response."""

    @property
    def early(self) -> tuple[str, ...]:
        """The clauses that may be decided before the end."""
        pairs = zip(self.clauses, self.starts, strict=True)
        return tuple(clause.name for clause, start in pairs if not isinstance(start(""), Late))


def plan_monitors(policy: Policy, clauses: Sequence[Clause]) -> MonitorPlan:
    """A plan for clauses that are statements about single responses.

    Raises: ConfigError when there is none, or one speaks of tokens.
    """
    if not clauses:
        raise ConfigError(
            "no such statement of the policy is about single responses, so there is nothing to monitor",
            help="judge all responses together with `constraintc eval`",
        )
    attributes = policy.compiled.ir.attributes
    read = word_list_reader(attributes, policy.folder, policy.compiled.files)
    # What a scorer of the caller's measures is not what the policy's pattern or list says.
    known = {a.name: replace(a, backend=None) if a.name in policy.rebound else a for a in attributes}
    starts = []
    for clause in clauses:
        if "tokens" in parts_needed([clause]):
            raise ConfigError(
                f"the clause `{clause.name}` speaks of tokens, and a text has none",
                help="judge it with `constraintc eval`, which has the model's own tokens",
            )
        assert isinstance(clause.statistic, Indicator)
        starts.append(watch(negation(clause.statistic.predicate), known, policy.pool, read))
    return MonitorPlan(tuple(clauses), tuple(starts))


def monitor_of(policy: Policy, plan: MonitorPlan, prompt: str, tags: Mapping[str, Any]) -> PolicyMonitor:
    """A monitor of one response; at its end the policy's own scorers decide."""

    def judge(text: str) -> dict[str, bool]:
        found = policy.judge([text], [prompt], [tags])
        return {
            clause.name: bool(found.values[0, k] == 0)  # an unknown score is a violation
            for k, clause in enumerate(policy.clauses)
            if clause in plan.clauses and found.inside[0, k]
        }

    return PolicyMonitor(plan, judge, prompt=prompt, speaks=lambda clause: matches(clause.domain, tags))


class PolicyMonitor:
    r"""The statements about single responses on one response that is still being written.

    >>> from constraintlang_runtime import Policy
    >>> policy = Policy.from_text('attribute digit: flag { backend = regex(re"[0-9]") }\nclean: always not digit')
    >>> monitor = policy.monitor()
    >>> monitor.feed("Room "), monitor.feed("1")
    ({}, {'clean': False})
    """

    def __init__(
        self,
        plan: MonitorPlan,
        judge: Callable[[str], Mapping[str, bool]],
        *,
        prompt: str = "",
        speaks: Callable[[Clause], bool] = lambda clause: True,
    ) -> None:
        self._judge = judge
        self._watches = {
            clause.name: start(prompt)
            for clause, start in zip(plan.clauses, plan.starts, strict=True)
            if speaks(clause)
        }
        self._pieces: list[str] = []
        self.decided: dict[str, bool] = {}
        self._note()

    @property
    def text(self) -> str:
        """The response so far."""
        return "".join(self._pieces)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """By clause: final, presumed (what it would be if the response ended here), or None (only the end tells).

        Of order over sentences or turns the part that is being written does not count yet.
        """
        return {
            name: _final(self.decided[name]) if name in self.decided else own.verdict
            for name, own in self._watches.items()
        }

    @property
    def violated(self) -> tuple[str, ...]:
        """The clauses that no continuation can satisfy any more."""
        return tuple(name for name, obeyed in self.decided.items() if not obeyed)

    def feed(self, piece: str) -> dict[str, bool]:
        """Read the next piece of the response; returns what it decided: by clause, whether the response obeys.

        Cost: linear in the piece; a scorer is called for parts that have ended, where a clause reads parts.
        Raises: ScorerError when such a scorer fails.
        """
        self._pieces.append(piece)
        for name, own in self._watches.items():
            if name not in self.decided:
                own.feed(piece)
        return self._note()

    def end(self) -> dict[str, bool]:
        """The response is whole: every clause decided by the policy's scorers; returns all of them."""
        self.decided = dict(self._judge(self.text)) if self._watches else {}
        return self.decided

    def _note(self) -> dict[str, bool]:
        """What has become final since the last time."""
        found = {
            name: verdict is PrefixVerdict.FINAL_TRUE
            for name, own in self._watches.items()
            if name not in self.decided and (verdict := own.verdict) is not None and verdict.is_final
        }
        self.decided |= found
        return found


def _final(obeyed: bool) -> PrefixVerdict:
    return PrefixVerdict.FINAL_TRUE if obeyed else PrefixVerdict.FINAL_FALSE
