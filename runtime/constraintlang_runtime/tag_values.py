"""Says where no prompt has a tag value that a policy names, and how the prompts write it instead.

Tags are compared as text, so that the `True` of a CSV file is not the `true` of a policy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from constraintlang_compiler.domains import describe, domain_name, tag_text
from constraintlang_compiler.ir import Clause, DomainAll, DomainAny, DomainIs, DomainNot, DomainPredicate
from constraintlang_compiler.measurements import measurements
from constraintlang_runtime.errors import DataError

logger = logging.getLogger(__name__)

Tags = Sequence[Mapping[str, object]]
MAX_LISTED = 5


def no_prompt(clause: Clause, tags: Tags, files: str) -> DataError:
    """The error for a clause without prompts; ``files`` are the options that give a file's prompts a domain."""
    keys = _keys(clause)
    other = _written_otherwise([clause.domain], tags)
    if other:
        help = f"write {' and '.join(other.values())} in the policy: tags are compared as text"
    elif "domain" in keys:
        help = f"write {files}, or give the rows a `domain` column"
    else:
        help = f"give prompts with {describe(clause.domain)}, or correct the policy"
    return DataError(none_in_domain("prompt", clause, tags), help=help)


def none_in_domain(what: str, clause: Clause, tags: Tags) -> str:
    """That no prompt, or row, lies in a clause's domain, and which tags they have."""
    present = " and ".join(_has(key, tags) for key in _keys(clause))
    return f"no {what} lies in the domain of `{clause.name}` ({domain_name(clause.domain)}); the {what}s have {present}"


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
        for one in _named(domain):
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


def _keys(clause: Clause) -> list[str]:
    return list(dict.fromkeys(one.key for one in _named(clause.domain))) or ["domain"]


def _named(domain: DomainPredicate | None) -> Iterator[DomainIs]:
    """Every comparison of a tag in a domain."""
    match domain:
        case DomainIs():
            yield domain
        case DomainNot(operand=operand):
            yield from _named(operand)
        case DomainAll(operands=operands) | DomainAny(operands=operands):
            for part in operands:
                yield from _named(part)
