"""Two policies statement by statement: which became stricter or looser, with a sample law that shows it.

"Implies" speaks of laws with known scores within their declared ranges, in which every domain has prompts. A
statement whose attribute is measured differently, or that is not understood, is not compared: then the answer
is "not decided", which counts like "looser" (a gate must not open because it cannot tell).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.tree import names_in
from constraintlang_compiler.analysis.counted import CountedSample, counted_sample
from constraintlang_compiler.analysis.decide import Answer, Decider
from constraintlang_compiler.analysis.forms import Variables
from constraintlang_compiler.analysis.limits import SECONDS, Budget
from constraintlang_compiler.analysis.match import pairs_of
from constraintlang_compiler.analysis.requirements import Requirement, law_of, requirement
from constraintlang_compiler.analysis.rows import NotAnalysed
from constraintlang_compiler.analysis.subjects import components
from constraintlang_compiler.analysis.witness import Sample, meets
from constraintlang_compiler.domains import describe
from constraintlang_compiler.lower_domains import lower_domain

Status = Literal["equal", "stricter", "looser", "incomparable", "added", "removed", "not decided"]


@dataclass(frozen=True)
class Witness:
    """A sample law on which the statement of one policy fails: of the old one, or of the new one (``breaks``).

    ``others`` says what is known of the other policy: all of its requirements that the law speaks of hold; its
    counterpart of the statement holds, and with the rest no law was found ("not decided"), or there is none
    ("excluded"). ``unchecked`` are requirements that speak of the scores of the law and are not analysed.
    """

    sample: Sample
    breaks: Literal["old", "new"]
    others: Literal["hold", "not decided", "excluded"] = "hold"
    unchecked: tuple[str, ...] = ()

    def heading(self) -> str:
        """What the law shows, in words."""
        allows = "new" if self.breaks == "old" else "old"
        text = f"on this law the {self.breaks} statement fails"
        names = ", ".join(self.unchecked)
        if self.others == "hold":
            aside = f" (not checked: {names})" if names else ""
            return f"{text}, and the {allows} policy holds where it speaks of it{aside}"
        text += f" and the {allows} one holds; "
        if self.others == "excluded":
            return f"{text}the others of the {allows} policy exclude every such law"
        return (
            f"{text}whether a law exists on which the others of the {allows} policy hold too is not decided"
        )


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of one statement.

    ``opens``: something that the old policy forbids may now pass unnoticed, and the old statement was no mere
    preference. ``witness`` is a law that the new policy accepts and the old statement rejects (for "stricter"
    and "added" one that the new statement rejects and the old policy accepts); ``counted`` is a sample of one
    size on which the verdicts differ although the law does not.
    """

    status: Status
    old: CheckedStatement | None
    new: CheckedStatement | None
    reasons: tuple[str, ...] = ()
    opens: bool = False
    witness: Witness | None = None
    counted: CountedSample | None = None

    @property
    def sample(self) -> Sample | None:
        """The law of the witness."""
        return None if self.witness is None else self.witness.sample

    @property
    def name(self) -> str:
        """The label, else the text, of the new statement where there is one."""
        statement = self.new or self.old
        assert statement is not None
        return _called(statement)

    @property
    def domain(self) -> str:
        """The prompts, or what they were and what they are."""
        shown = [
            describe(None if s.domain is None else lower_domain(s.domain)) for s in (self.old, self.new) if s
        ]
        return " -> ".join(dict.fromkeys(shown))

    def to_json(self) -> dict[str, object]:
        """The change as plain data."""
        return {
            "status": self.status,
            "name": self.name,
            "domain": self.domain,
            "old": None if self.old is None else self.old.text,
            "new": None if self.new is None else self.new.text,
            "reasons": list(self.reasons),
            "opens": self.opens,
            "witness": None if self.sample is None else [row.to_json() for row in self.sample],
            "witness_shows": None if self.witness is None else self.witness.heading(),
            "counted_witness": None if self.counted is None else self.counted.to_json(),
        }


def compare(old: CheckedPolicy, new: CheckedPolicy, *, seconds: float = SECONDS) -> list[Change]:
    """What became of every statement, in the order of the new policy."""
    return _Comparison(old, new, Budget(seconds)).changes()


class _Comparison:
    def __init__(self, old: CheckedPolicy, new: CheckedPolicy, budget: Budget) -> None:
        self.old, self.new = old, new
        self.moved = frozenset(
            name
            for name in old.attributes.keys() & new.attributes.keys()
            if _measured(old, name) != _measured(new, name)
        )
        variables = Variables({**old.attributes, **new.attributes})
        self.decider = Decider(variables, budget)
        self.before = [self._read(s, i) for i, s in enumerate(old.statements)]
        self.after = [self._read(s, len(old.statements) + i) for i, s in enumerate(new.statements)]

    def _read(self, statement: CheckedStatement, index: int) -> Requirement | str:
        """The requirement of a statement, or why it is not compared."""
        changed = sorted(
            {".".join(name.parts) for name in names_in(statement.formula)}.intersection(self.moved)
        )
        if changed:
            return f"`{changed[0]}` is measured differently in the two policies"
        try:
            return requirement(statement, index, self.decider.variables)
        except NotAnalysed as reason:
            return str(reason)

    def changes(self) -> list[Change]:
        found = []
        for pair in pairs_of(self.old.statements, self.new.statements):
            if pair.old is None:
                assert pair.new is not None
                found.append(self._added(pair.new))
            elif pair.new is None:
                found.append(self._removed(pair.old))
            else:
                found.append(self._pair(pair.old, pair.new))
        return found

    # ------------------------------------------------------------ one side only
    def _added(self, place: int) -> Change:
        subject = self.after[place]
        witness = self._witness("new", subject) if isinstance(subject, Requirement) else None
        return Change(status="added", old=None, new=self.new.statements[place], witness=witness)

    def _removed(self, place: int) -> Change:
        statement, subject = self.old.statements[place], self.before[place]
        reasons, witness, opens = [], None, _binds(statement)
        if isinstance(subject, str):
            reasons.append(subject)
        else:
            witness = self._witness("old", subject)
            if self._is_implied(subject):
                reasons.append("what is left implies it")
                opens = False
        return Change(
            status="removed", old=statement, new=None, reasons=tuple(reasons), opens=opens, witness=witness
        )

    # ------------------------------------------------------------ both sides
    def _pair(self, place_old: int, place_new: int) -> Change:
        old, new = self.old.statements[place_old], self.new.statements[place_new]
        before, after = self.before[place_old], self.after[place_new]
        looser, stricter = _standing(old, new)
        witness: Witness | None = None
        forth = back = Answer("unknown")
        counted: CountedSample | None = None
        undecided: list[str] = []
        if old.formula == new.formula and _same_frame(old, new) and not self._is_moved(old):
            pass  # nothing to ask
        elif isinstance(before, str) or isinstance(after, str):
            undecided.append(before if isinstance(before, str) else str(after))
        elif before.law != after.law:
            undecided.append("the two are sampled under different settings")
        else:
            forth, back = self.decider.ask([after], before), self.decider.ask([before], after)
            if forth.verdict == "possible":
                looser.append("accepts laws that the old one rejects")
            if back.verdict == "possible":
                stricter.append("rejects laws that the old one accepts")
            undecided += [a.reason for a in (forth, back) if a.verdict == "unknown"]
        opens = _binds(old) and bool(looser or undecided)
        if isinstance(before, Requirement) and (looser or undecided):
            witness = self._witness("old", before, after, forth.sample)
            if witness is not None and isinstance(after, str) and _called(new) in witness.unchecked:
                witness = None  # nothing is known of the statement that it stands against
            if opens and not _standing(old, new)[0] and self._is_implied(before):
                opens = False
                looser.append("the rest of the new policy still implies the old statement")
        if witness is None and isinstance(after, Requirement) and stricter:
            witness = self._witness("new", after, before, back.sample)
        if old.confidence > new.confidence:
            counted = counted_sample(old, new, {**self.old.attributes, **self.new.attributes})
        return Change(
            status=_status(looser, stricter, undecided), old=old, new=new,
            reasons=(*looser, *stricter, *undecided), opens=opens, witness=witness, counted=counted,
        )  # fmt: skip

    def _is_moved(self, statement: CheckedStatement) -> bool:
        return any(".".join(name.parts) in self.moved for name in names_in(statement.formula))

    def _witness(
        self,
        breaks: Literal["old", "new"],
        failing: Requirement,
        partner: Requirement | str | None = None,
        between: Sample | None = None,
    ) -> Witness | None:
        """A law on which a statement of one policy fails and the binding ones of the other hold.

        Of the other policy only what touches the statement, directly or through others, is looked at; the
        ``partner`` of the statement has prompts in any case. ``between`` is a law on which the partner alone holds.
        """
        policy, holding = (self.new, self.after) if breaks == "old" else (self.old, self.before)
        binding = [r for r in holding if isinstance(r, Requirement) and _binds(r.statement)]
        near = _near(binding, failing)
        surely = [r for r in near if r is partner]
        answer = self.decider.ask_all(near, failing, surely=surely, may_be_empty=True)
        if answer.sample is not None:
            apart = [s for s, r in zip(policy.statements, holding, strict=True) if isinstance(r, str)]
            unchecked = [s for s in apart if _binds(s) and self._may_break(s, failing, answer.sample)]
            return Witness(answer.sample, breaks, "hold", tuple(dict.fromkeys(map(_called, unchecked))))
        if between is None:
            return None
        return Witness(between, breaks, "excluded" if answer.is_impossible else "not decided")

    def _may_break(self, statement: CheckedStatement, failing: Requirement, sample: Sample) -> bool:
        """Whether a law may break a statement that is not analysed and speaks of the same law and scores."""
        names = {".".join(name.parts) for name in names_in(statement.formula)}
        if law_of(statement) != failing.law or names.isdisjoint(
            name for row in sample for name in row.scores
        ):
            return False
        try:
            return self._is_moved(statement) or meets(statement, sample) is False
        except ValueError:  # unknown to the reference interpreter
            return True

    def _is_implied(self, subject: Requirement) -> bool:
        """Whether the binding statements of the new policy, at no lower confidence, imply an old one.

        Statements that contradict each other imply nothing here: such a policy was not tightened on purpose.
        """
        binding = [
            r
            for r in self.after
            if isinstance(r, Requirement)
            and _binds(r.statement)
            and r.statement.confidence >= subject.statement.confidence
        ]
        answer = self.decider.ask_all(_near(binding, subject), subject)
        return answer.is_impossible and self.decider.ask(answer.used).verdict == "possible"


def _near(holding: Sequence[Requirement], subject: Requirement) -> list[Requirement]:
    """The statements that share the law and, directly or through others, a score with ``subject``."""
    group = next(g for g in components([*holding, subject]) if subject in g)
    return [r for r in group if r is not subject]


def _measured(policy: CheckedPolicy, name: str) -> tuple[object, ...]:
    info = policy.attributes[name]
    return info.type, info.low, info.high, info.backend


def _called(statement: CheckedStatement) -> str:
    return statement.label or statement.text


def _binds(statement: CheckedStatement) -> bool:
    return statement.strength != "prefer"


def _same_frame(old: CheckedStatement, new: CheckedStatement) -> bool:
    """Whether two statements of equal formulas speak of the same prompts, law and tolerance."""
    return (
        old.reading == new.reading
        and old.tolerance == new.tolerance
        and old.domain == new.domain
        and old.per == new.per
        and {k: v for k, v in old.sampling.items() if k != "samples"}
        == {k: v for k, v in new.sampling.items() if k != "samples"}
    )


def _standing(old: CheckedStatement, new: CheckedStatement) -> tuple[list[str], list[str]]:
    """What makes the new statement count less, and more, whatever it says."""
    looser: list[str] = []
    stricter: list[str] = []

    def judge(less: bool, more: bool, what: str) -> None:
        if less:
            looser.append(what)
        elif more:
            stricter.append(what)

    judge(
        _binds(old) and not _binds(new),
        _binds(new) and not _binds(old),
        f"{old.strength} became {new.strength}",
    )
    judge(
        new.confidence < old.confidence, new.confidence > old.confidence,
        f"confidence {old.confidence} became {new.confidence}",
    )  # fmt: skip
    judge(
        new.priority > old.priority, new.priority < old.priority,
        f"priority {old.priority} became {new.priority}",
    )  # fmt: skip
    if not _binds(old) and not _binds(new):
        judge(new.weight < old.weight, new.weight > old.weight, f"weight {old.weight} became {new.weight}")
    return looser, stricter


def _status(looser: Sequence[str], stricter: Sequence[str], undecided: Sequence[str]) -> Status:
    if undecided:
        return "not decided"
    if looser and stricter:
        return "incomparable"
    return "looser" if looser else "stricter" if stricter else "equal"
