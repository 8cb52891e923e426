"""From scored responses to the evidence on which a clause is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.measurements import measure, measurements
from constraintlang_runtime.scorers.parts import Scored
from constraintlang_runtime.verification import Evidence, SumEvidence
from constraintlang_runtime.verify_sums import is_sum


def evidence_of(
    clause: Clause,
    tags: Sequence[Mapping[str, Any]],
    inside: Sequence[int] | NDArray[np.int64],
    own_scores: Scored,
    of_base: Scored,
    count: int,
) -> Evidence | SumEvidence:
    """What scored responses say about a clause: values of its measurements on the prompts of its domain.

    ``tags`` are those of each response, ``inside`` the responses in the domain, in order, ``count`` of each prompt.
    """
    wanted = measurements(clause)
    values = [
        measure(clause, one, *(own_scores if one.model == "self" else of_base))[inside].reshape(-1, count)
        for one in wanted
    ]
    if not is_sum(clause):
        (own,) = values
        return Evidence(statistic_per_prompt=own[:, 0] if count == 1 else own, single_sample=count == 1)
    asked = [tags[i] for i in inside[::count]]
    members = [np.array([matches(one.given, row) for row in asked], dtype=bool) for one in wanted]
    return SumEvidence(values=tuple(values), inside=tuple(members))
