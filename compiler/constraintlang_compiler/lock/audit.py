"""Everything that a verdict on a policy rests on without proof: scorers, files, models, assumed numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal

from constraintlang import check_source
from constraintlang.checked import AttributeInfo, CheckedPolicy, CheckedStatement
from constraintlang.printer import format_number
from constraintlang.source import SourceFile
from constraintlang.tree import names_in
from constraintlang.vocabulary import DEFAULT_CONFIDENCE, DEFAULT_TOLERANCE
from constraintlang_compiler.lock.pins import BUILT_IN, Part, Place, parts_of

LAW = ("temperature", "top_p", "top_k", "max_tokens")


@dataclass(frozen=True)
class Trusted:
    """One trusted part: what it is, what is trusted of it, and what to worry about (empty: nothing)."""

    part: str
    kind: str
    trust: str
    pin: str | None
    used_by: tuple[str, ...] = ()
    concern: str = ""

    def to_json(self) -> dict[str, object]:
        """The entry as plain data."""
        return asdict(self)


def audit(source: SourceFile, place: Place) -> list[Trusted]:
    """The trusted parts of a policy: scorers first, then data, then what its statements assume.

    Raises: PolicyError when the policy has errors.
    """
    policy = check_source(source, allow_path=place.allow_path).require()
    found = []
    for part in parts_of(source, place):
        kind, _, name = part.name.partition(" ")
        if kind == "attribute":
            found.append(_scorer(part, policy.attributes[name], policy))
        elif kind == "import":
            found.append(Trusted(part.name, part.kind, "the meaning of the names that it declares", part.pin))
        else:
            found.append(
                Trusted(part.name, part.kind, f"the prompts of `{part.source}`", part.pin, (), part.problem)
            )
    return [*found, *_assumed(policy)]


def _scorer(part: Part, info: AttributeInfo, policy: CheckedPolicy) -> Trusted:
    users = [s for s in policy.statements if info.name in _names(s)]
    concerns = [part.problem] if part.problem else []
    trust = f"its scores of `{info.name}` are taken at their word"
    if part.kind == "plug-in":
        trust = f"runs the code of `{part.source}`; {trust}"
        if not _is_deterministic(info):
            required = any(s.strength == "require" for s in users)
            concerns.append(
                "not declared deterministic" + (", and a requirement rests on it" if required else "")
            )
    elif part.pin == BUILT_IN:
        trust = "counted by this program"
    return Trusted(part.name, part.kind, trust, part.pin, _called(users), "; ".join(concerns))


def _is_deterministic(info: AttributeInfo) -> bool:
    declared = None if info.backend is None else dict(info.backend.keywords).get("deterministic")
    return declared is not None and declared.value is True


def _assumed(policy: CheckedPolicy) -> Iterator[Trusted]:
    """Numbers that shape a verdict although nobody may have chosen them, each with the statements it touches."""
    statements = policy.statements
    tolerant = [
        s
        for s in statements
        if s.reading == "pointwise" and not s.always and s.tolerance == DEFAULT_TOLERANCE
    ]
    yield from _number(
        "tolerance",
        format_number(DEFAULT_TOLERANCE, percent=True),
        "that share of the responses may break the statement",
        tolerant,
    )
    usual = [s for s in statements if s.confidence == DEFAULT_CONFIDENCE]
    yield from _number(
        "confidence",
        format_number(DEFAULT_CONFIDENCE, percent=True),
        "a verdict may be wrong in the remaining share of cases",
        usual,
    )
    open_law = [s for s in statements if s.reading != "rows" and not set(LAW) & set(s.sampling)]
    yield from _number("sampling law", "that of the run", "a verdict holds for it only", open_law)
    bounded = {
        name: info for name, info in sorted(policy.attributes.items())
        if info.type == "real" and info.low is not None and info.high is not None
    }  # fmt: skip
    for name, info in bounded.items():
        users = [s for s in statements if name in _names(s)]
        shown = f"[{format_number(info.low or Decimal(0))}, {format_number(info.high or Decimal(0))}]"
        yield from _number(f"range of {name}", shown, "scores outside it count as missing", users)


def _number(what: str, value: str, trust: str, users: Sequence[CheckedStatement]) -> Iterator[Trusted]:
    if users:
        yield Trusted(what, "assumed", f"{value}: {trust}", None, _called(users))


def _names(statement: CheckedStatement) -> set[str]:
    return {".".join(name.parts) for name in names_in(statement.formula)}


def _called(statements: Sequence[CheckedStatement]) -> tuple[str, ...]:
    return tuple(s.label or s.text for s in statements)
