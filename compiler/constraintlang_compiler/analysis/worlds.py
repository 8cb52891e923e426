"""All kinds of prompts that the domains of a query can tell apart, each with tags that show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from constraintlang_compiler.analysis.limits import MAX_WORLDS, TooLarge
from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import DomainAll, DomainAny, DomainIs, DomainNot, DomainPredicate

MAX_ASSIGNMENTS = 20_000


@dataclass(frozen=True)
class World:
    """A kind of prompt: tags of an example, and the domains that it lies in."""

    tags: Mapping[str, str]
    inside: frozenset[DomainPredicate | None]


def worlds_of(domains: Iterable[DomainPredicate | None]) -> list[World]:
    """The kinds of prompts, those outside every domain left out.

    A tag is one of the values that a domain names for it, or missing: whatever else it may be, the domains
    cannot tell. Raises: TooLarge.
    """
    wanted = list(dict.fromkeys(domains))
    values: dict[str, set[str]] = {}
    for domain in wanted:
        for leaf in _leaves(domain):
            values.setdefault(leaf.key, set()).update(leaf.values)
    choices = [(None, *sorted(found)) for _, found in sorted(values.items())]
    size = 1
    for choice in choices:
        size *= len(choice)
    if size > MAX_ASSIGNMENTS:
        raise TooLarge(f"{size:,} combinations of tags have to be told apart")
    found_worlds: dict[frozenset[DomainPredicate | None], World] = {}
    for assignment in product(*choices):
        tags = {
            key: value for key, value in zip(sorted(values), assignment, strict=True) if value is not None
        }
        inside = frozenset(domain for domain in wanted if matches(domain, tags))
        if inside:
            found_worlds.setdefault(inside, World(tags, inside))
    if len(found_worlds) > MAX_WORLDS:
        raise TooLarge(f"{len(found_worlds):,} kinds of prompts have to be told apart")
    return list(found_worlds.values())


def selects_nothing(domain: DomainPredicate | None) -> bool:
    """Whether no prompt can lie in a domain.

    Raises: TooLarge.
    """
    return not worlds_of([domain])


def _leaves(domain: DomainPredicate | None) -> Sequence[DomainIs]:
    found: list[DomainIs] = []
    stack = [] if domain is None else [domain]
    while stack:
        node = stack.pop()
        match node:
            case DomainIs():
                found.append(node)
            case DomainNot(operand=operand):
                stack.append(operand)
            case DomainAll(operands=operands) | DomainAny(operands=operands):
                stack.extend(operands)
    return found
