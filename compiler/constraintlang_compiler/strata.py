"""Strata of statements with ``per``: a clause of its own for each value of the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from constraintlang_compiler.canonical import clause_id
from constraintlang_compiler.domains import matches, tag_text
from constraintlang_compiler.errors import StratumError
from constraintlang_compiler.ir import Clause, DomainAll, DomainIs, DomainPredicate, PolicyIR
from constraintlang_compiler.lower_domains import both

MAX_STRATA = 1000
Tags = Sequence[Mapping[str, object]]


def expand_strata(ir: PolicyIR, prompt_tags: Tags, row_tags: Tags | None = None) -> PolicyIR:
    """The policy with every open ``per`` replaced by one clause for each stratum of the data.

    Strata are the combinations of values that occur in the clause's domain, among the tags of the prompts, or of
    the user's rows for a utility clause (which is left as it is when no rows are given); data without one of the
    keys are in no stratum. A clause whose domain has no data is left as it is: it lacks prompts, whatever its strata.
    Raises: StratumError when no prompt in the domain has the keys, or when there are more than 1,000 strata.
    """
    clauses: list[Clause] = []
    for clause in ir.clauses:
        tags = row_tags if clause.kind == "utility" else prompt_tags
        clauses += [clause] if tags is None else _strata(clause, tags)
    return replace(ir, clauses=tuple(clauses))


def _strata(clause: Clause, tags: Tags) -> list[Clause]:
    if not clause.per:
        return [clause]
    inside = [row for row in tags if matches(clause.domain, row)]
    if not inside:
        return [clause]
    found: set[tuple[str, ...]] = set()
    for row in inside:
        values = [tag_text(row[key]) if key in row else None for key in clause.per]
        known = tuple(value for value in values if value is not None)
        if len(known) == len(values):
            found.add(known)
    keys = " and ".join(f"`{key}`" for key in clause.per)
    if not found:
        raise StratumError(
            f"`{clause.name}` is judged per {keys}, and no prompt in its domain has {keys}",
            help="give the prompts these columns, or remove `per` from the policy",
        )
    if len(found) > MAX_STRATA:
        raise StratumError(
            f"`{clause.name}` is judged per {keys}, which have {len(found)} values in the data; "
            f"at most {MAX_STRATA} strata are judged",
            help="choose a key with fewer values",
        )
    return [_stratum(clause, dict(zip(clause.per, values, strict=True))) for values in sorted(found)]


def _stratum(clause: Clause, stratum: dict[str, str]) -> Clause:
    suffix = stratum_suffix(stratum)
    one = replace(
        clause,
        per=(),
        stratum={**clause.stratum, **stratum},
        domain=in_stratum(clause.domain, stratum),
        label=None if clause.label is None else clause.label + suffix,
        text=clause.text if clause.label is not None else f"{clause.text} {suffix}",
    )
    return replace(one, id=clause_id(one))


def stratum_suffix(stratum: Mapping[str, str]) -> str:
    """What a stratum adds to the name of its clause.

    >>> stratum_suffix({"lang": "en"})
    '[lang=en]'
    """
    return (
        "[" + ", ".join(f"{key}={value}" for key, value in sorted(stratum.items())) + "]" if stratum else ""
    )


def in_stratum(domain: DomainPredicate | None, stratum: Mapping[str, str]) -> DomainPredicate | None:
    """The part of a domain that is in a stratum."""
    scopes = [DomainIs(key=key, values=(value,)) for key, value in sorted(stratum.items())]
    parts = scopes if domain is None else [domain, *scopes]
    return both(parts) if parts else None


def is_possible(domain: DomainPredicate | None, stratum: Mapping[str, str]) -> bool:
    """Whether a domain that names values of the keys outright leaves room for a stratum."""
    parts = domain.operands if isinstance(domain, DomainAll) else (domain,)
    return all(
        stratum[part.key] in part.values
        for part in parts
        if isinstance(part, DomainIs) and part.key in stratum
    )
