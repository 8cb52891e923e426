"""Says where no prompt has a tag value that a policy names, and how the prompts write it instead.

Tags are compared as text, so that the `True` of a CSV file is not the `true` of a policy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from constraintlang.suggestions import closest
from constraintlang_compiler.domains import describe, domain_name, matches, tag_text
from constraintlang_compiler.ir import (
    Clause,
    Combination,
    DomainAll,
    DomainAny,
    DomainIs,
    DomainNot,
    DomainPredicate,
)
from constraintlang_compiler.lower_domains import both
from constraintlang_compiler.measurements import measurements
from constraintlang_runtime.columns import split_domain
from constraintlang_runtime.errors import DataError

logger = logging.getLogger(__name__)

Tags = Sequence[Mapping[str, object]]
MAX_LISTED = 5


def empty_domains(clause: Clause, tags: Tags) -> list[DomainPredicate | None]:
    """Which domains of a clause hold no prompt: its own, or that of a statistic in a comparison."""
    parts = measurements(clause) if isinstance(clause.statistic, Combination) else ()
    scopes = [[one for one in (clause.domain, part.given) if one is not None] for part in parts]
    domains = dict.fromkeys([clause.domain, *(both(scope) if scope else None for scope in scopes)])
    return [domain for domain in domains if not any(matches(domain, row) for row in tags)]


def no_prompt(clause: Clause, domain: DomainPredicate | None, tags: Tags, files: str) -> DataError:
    """The error for an empty domain of a clause; ``files`` are the options that give a file's prompts a domain."""
    keys = list(dict.fromkeys(one.key for one in named_tags(domain))) or ["domain"]
    other = _written_otherwise([domain], tags)
    if other:
        help = f"write {' and '.join(other.values())} in the policy: tags are compared as text"
    elif "domain" in keys:
        near = list(_nearly_written(domain, tags))
        help = f"write {files}, or give the rows a `domain` column"
        if near:
            help = f"a similar name exists: {' and '.join(near)}; or {help}"
    else:
        help = f"give prompts with {describe(domain)}, or correct the policy"
    return DataError(none_in_domain("prompt", clause, domain, tags), help=help)


def none_in_domain(what: str, clause: Clause, domain: DomainPredicate | None, tags: Tags) -> str:
    """That no prompt, or row, lies in a domain of a clause, and which tags they have."""
    keys = list(dict.fromkeys(one.key for one in named_tags(domain))) or ["domain"]
    whose = "" if domain == clause.domain else "a statistic of "
    present = " and ".join(_has(key, tags) for key in keys)
    return f"no {what} lies in the domain of {whose}`{clause.name}` ({domain_name(domain)}); the {what}s have {present}"


def require_named_domains(clauses: Iterable[Clause], specs: Sequence[str], files: str) -> None:
    """Raise, before a file is read, the error of ``no_prompt`` for a clause whose domain no ``DOMAIN=FILE`` names.

    Of a file without a domain, and of a clause that reads other tags, nothing is known yet.
    """
    named = [split_domain(spec)[0] for spec in specs]
    if None in named:
        return
    tags = [{"domain": domain} for domain in named]
    for clause in clauses:
        read = {one.key for one in named_tags(clause.domain)}
        if read == {"domain"} and not clause.per and not any(matches(clause.domain, row) for row in tags):
            raise no_prompt(clause, clause.domain, tags, files)


def warn_of_spelling(clauses: Iterable[Clause], tags: Tags) -> None:
    """Log a warning for each value that no prompt has, while some have it in other letters."""
    domains = {
        domain: None
        for clause in clauses
        for domain in (clause.domain, *(one.given for one in measurements(clause)))
    }
    for wanted, written in _written_otherwise(domains, tags).items():
        logger.warning(
            "no prompt has the tag %s, but some have %s: tags are compared as text", wanted, written
        )


def _written_otherwise(domains: Iterable[DomainPredicate | None], tags: Tags) -> dict[str, str]:
    """What the policy writes, and the prompts write otherwise, with how they do."""
    found: dict[str, str] = {}
    # of each key: a value in small letters, and how the prompts write it
    written: dict[str, dict[str, list[str]]] = {}
    for domain in domains:
        named: dict[str, set[str]] = {}
        for one in named_tags(domain):
            named.setdefault(one.key, set()).update(one.values)
        for key, wanted in named.items():
            if key not in written:
                written[key] = {}
                for value in _values(key, tags):
                    written[key].setdefault(_folded(value), []).append(value)
            for value in sorted(wanted):
                alike = written[key].get(_folded(value), [])
                if alike and wanted.isdisjoint(alike):  # a domain may name a value in several ways
                    found[f"`{_shown(key, value)}`"] = " or ".join(f"`{_shown(key, v)}`" for v in alike)
    return found


def _nearly_written(domain: DomainPredicate | None, tags: Tags) -> Iterator[str]:
    """What the policy writes, where the prompts have a domain of a similar name."""
    present = _values("domain", tags)
    for wanted in sorted(
        {value for one in named_tags(domain) if one.key == "domain" for value in one.values}
    ):
        near = closest(wanted, present)
        if near is not None:
            yield f"`{wanted}`, where the prompts have `{near}`"


def _folded(value: str) -> str:
    return value.strip().casefold()


def _shown(key: str, value: str) -> str:
    return describe(DomainIs(key=key, values=(value,)))


def _has(key: str, tags: Tags) -> str:
    present = _values(key, tags)
    listed = ", ".join(present[:MAX_LISTED]) + (", ..." if len(present) > MAX_LISTED else "")
    if key == "domain":
        return f"the domains {listed}" if present else "no domain"
    return f"`{key}` {listed}" if present else f"no `{key}`"


def _values(key: str, tags: Tags) -> list[str]:
    return sorted({text for row in tags if key in row and (text := tag_text(row[key])) is not None})


def named_tags(domain: DomainPredicate | None) -> Iterator[DomainIs]:
    """Every comparison of a tag in a domain."""
    match domain:
        case DomainIs():
            yield domain
        case DomainNot(operand=operand):
            yield from named_tags(operand)
        case DomainAll(operands=operands) | DomainAny(operands=operands):
            for part in operands:
                yield from named_tags(part)
