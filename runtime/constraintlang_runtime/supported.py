"""Which clauses this release runs: the others are refused before anything is loaded or sampled."""

from __future__ import annotations

from constraintlang_compiler.ir import Indicator, PolicyIR, RowsLoss, Value
from constraintlang_runtime.errors import ConfigError


def check_supported(ir: PolicyIR) -> None:
    """Raise ConfigError naming every clause that compiles but is not run yet."""
    refused = [
        f"`{clause.name}` ({clause.kind})"
        for clause in ir.clauses
        if not isinstance(clause.statistic, (Indicator, Value, RowsLoss))
        or clause.kind == "quantile"
        or clause.per
        or (clause.base_factor is not None and clause.kind != "utility")
    ]
    if refused:
        raise ConfigError(
            f"this release does not train or verify {', '.join(refused)}",
            help="write thresholds on means, chances and single responses, in statements for each value of a tag",
        )
