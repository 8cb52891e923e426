"""From scored responses to the evidence on which a clause is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.checkers import measure
from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.measurements import measurements
from constraintlang_runtime.bet_order import Keys, bet_keys, bet_order, joint_key
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.parts import Scored
from constraintlang_runtime.verification import Evidence, SumEvidence
from constraintlang_runtime.verify_plain import Statistics
from constraintlang_runtime.verify_sums import is_sum
from constraintlang_runtime.verify_tails import is_tail

SEPARATOR = "\x1e"  # between texts that are hashed together


def evidence_of(
    clause: Clause,
    tags: Sequence[Mapping[str, Any]],
    inside: Sequence[int] | NDArray[np.int64],
    own_scores: Scored,
    of_base: Scored,
    count: int | Sequence[int],
    said: Keys | None = None,
) -> Evidence | SumEvidence:
    """What scored responses say about a clause: values of its measurements on the prompts of its domain.

    ``tags`` are those of each response, ``inside`` the responses in the domain, in order, ``count`` of each prompt, or
    the number of each prompt in the domain. ``said`` are the ``response_keys``, by which the prompts are ordered
    (``in_bet_order``); without them they must stand in an order that does not depend on the scores.
    Raises: ConfigError when a tail or a comparison is to be judged on different numbers of responses.
    """
    sizes = [count] * (len(inside) // count) if isinstance(count, int) else list(count)
    keys = None
    if said is not None:
        keys = said[np.asarray(inside, dtype=np.int64)]
        if len(keys) and set(sizes) != {1}:
            keys = _keys_of_units(keys, sizes)
    if not isinstance(count, int):
        if len(set(sizes)) > 1:
            return _ragged(clause, inside, own_scores, sizes, keys)
        count = sizes[0] if sizes else 1
    wanted = measurements(clause)
    values = [
        measure(clause, one, *(own_scores if one.model == "self" else of_base))[inside].reshape(-1, count)
        for one in wanted
    ]
    if not is_sum(clause):
        (own,) = values
        return Evidence(
            statistic_per_prompt=own[:, 0] if count == 1 else own, single_sample=count == 1, keys=keys
        )
    asked = [tags[i] for i in inside[::count]]
    members = [np.array([matches(one.given, row) for row in asked], dtype=bool) for one in wanted]
    return SumEvidence(values=tuple(values), inside=tuple(members), keys=keys)


def response_keys(prompts: Sequence[str], completions: Sequence[str]) -> Keys:
    """The key of each response with its prompt [n]."""
    return bet_keys(map(SEPARATOR.join, zip(prompts, completions, strict=True)))


def _keys_of_units(keys: Keys, sizes: Sequence[int]) -> Keys:
    ends = np.cumsum(sizes)
    units = (keys[end - size : end] for size, end in zip(sizes, ends, strict=True))
    return np.array([joint_key(unit) for unit in units], dtype=np.uint64)


def in_bet_order(evidence: Evidence | SumEvidence) -> Evidence | SumEvidence:
    """The evidence with its prompts in the order in which they are bet on; as it is where it has no keys."""
    if evidence.keys is None:
        return evidence
    order = bet_order(evidence.keys)
    count = len(evidence.values[0] if isinstance(evidence, SumEvidence) else evidence.statistic_per_prompt)
    if len(order) != count:
        raise ValueError(f"got {len(order)} keys for {count} prompts; expected one for each")
    if isinstance(evidence, SumEvidence):
        return replace(
            evidence,
            values=tuple(values[order] for values in evidence.values),
            inside=tuple(members[order] for members in evidence.inside),
            keys=None,
        )
    known = evidence.statistic_per_prompt
    ordered = known[order] if isinstance(known, np.ndarray) else [known[i] for i in order.tolist()]
    return replace(evidence, statistic_per_prompt=ordered, keys=None)


def joined(parts: Sequence[Evidence | SumEvidence], *, clause: Clause) -> Evidence | SumEvidence:
    """The evidence of several batches of prompts as one."""
    if is_sum(clause):
        sums = [part for part in parts if isinstance(part, SumEvidence)]
        wanted = range(len(measurements(clause)))
        if not sums:
            nothing = (np.empty((0, 1)),) * len(wanted)
            return SumEvidence(values=nothing, inside=(np.empty(0, dtype=bool),) * len(wanted))
        return SumEvidence(
            values=tuple(np.concatenate([part.values[k] for part in sums]) for k in wanted),
            inside=tuple(np.concatenate([part.inside[k] for part in sums]) for k in wanted),
            keys=_joined_keys(sums),
        )
    plain = [part for part in parts if isinstance(part, Evidence)]
    if len(plain) == 1:
        return plain[0]
    series = [part.statistic_per_prompt for part in plain]
    shapes = {part.shape[1:] if isinstance(part, np.ndarray) else None for part in series}
    whole: Statistics = [np.atleast_1d(row) for part in series for row in part]
    if len(shapes) <= 1 and None not in shapes:
        whole = np.concatenate([np.asarray(part) for part in series]) if series else np.empty(0)
    return Evidence(
        statistic_per_prompt=whole,
        single_sample=all(part.single_sample for part in plain),
        keys=_joined_keys(plain),
    )


def _joined_keys(parts: Sequence[Evidence] | Sequence[SumEvidence]) -> Keys | None:
    keys = [part.keys for part in parts if part.keys is not None]
    return np.concatenate(keys) if keys and len(keys) == len(parts) else None


def _ragged(
    clause: Clause, inside: Sequence[int] | NDArray[np.int64], own_scores: Scored, sizes: Sequence[int],
    keys: Keys | None,
) -> Evidence:  # fmt: skip
    """A clause on prompts with different numbers of responses: their means are the evidence."""
    if is_tail(clause) or is_sum(clause):
        raise ConfigError(
            f"`{clause.name}`: a quantile, a cvar or a comparison of statistics needs as many responses to each prompt "
            "as to every other",
            help="give each prompt the same number of responses",
        )
    (wanted,) = measurements(clause)
    values = measure(clause, wanted, *own_scores)[inside]
    ends = np.cumsum(sizes)[:-1]
    return Evidence(statistic_per_prompt=list(np.split(values, ends)), single_sample=False, keys=keys)
