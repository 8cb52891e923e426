"""What a run keeps apart from training: rows that measure losses, and prompts that choose the checkpoint.

The choice depends on the seed and on the content of a row alone, not on its place or on the method, so that a
baseline keeps the same rows apart. A policy without `preserve` clauses and a run that keeps its last checkpoint take
nothing away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from constraintlang_compiler.domains import domain_name, matches
from constraintlang_compiler.ir import PolicyIR
from constraintlang_compiler.scopes import utility_clauses
from constraintlang_runtime.data import TokenRow, prompt_rows
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.grouping import assign_groups
from constraintlang_runtime.settings import ConstraintSettings

MOST_ROWS = 0.05  # of the training rows (of a `preserve` domain), whatever the settings ask for
MOST_PROMPTS = 0.1  # of the sampled prompts of a group

Key = Callable[[TokenRow], tuple[int, ...]]


@dataclass(frozen=True)
class Split:
    """``rows`` are trained on, ``prompts`` sampled; ``heldout`` rows and ``selection`` prompts are neither."""

    rows: list[TokenRow]
    prompts: list[TokenRow]
    heldout: list[TokenRow]
    selection: list[TokenRow]


def split(
    ir: PolicyIR,
    rows: list[TokenRow],
    prompts: list[TokenRow] | None,
    config: ConstraintSettings,
    seed: int,
    *,
    heldout: list[TokenRow] | None = None,
    selection: list[TokenRow] | None = None,
) -> Split:
    """Take apart what a run with these settings measures on.

    ``prompts`` are those to be sampled, the prompts of the rows when None; ``heldout`` and ``selection`` are the user's
    own, and then nothing is chosen among the training data for that purpose. Rows with a selection prompt are held out.
    Raises: ConfigError for rows or prompts that nothing would use, DataError when there are too few.
    """
    chooses = config.keep == "best"
    utility = utility_clauses(ir)
    if heldout is not None and not (chooses or utility):
        raise ConfigError(
            "--heldout: nothing is measured on held-out rows",
            help="leave it out; `preserve` clauses and `--keep best` use such rows",
        )
    if selection is not None and not chooses:
        raise ConfigError(
            "--selection: the last checkpoint is kept, so no prompts choose it", help="add --keep best"
        )
    if heldout is None:
        kept: set[tuple[int, ...]] = set()
        domains = [clause.domain for clause in utility] + ([None] if chooses else [])
        for domain in domains:
            inside = [row for row in rows if matches(domain, row.tags)]
            kept |= _first(inside, lambda row: row.ids, config.heldout_rows, MOST_ROWS, seed, already=kept)
        heldout = [row for row in rows if row.ids in kept]
        rows = [row for row in rows if row.ids not in kept] if kept else rows
    else:
        for clause in utility:
            if not clause.per and not any(matches(clause.domain, row.tags) for row in heldout):
                raise DataError(
                    f"--heldout: no row lies in the domain of `{clause.name}` ({domain_name(clause.domain)})",
                    help="add --heldout DOMAIN=FILE, or leave --heldout out: then training rows are kept apart",
                )
    sampled = prompt_rows(rows) if prompts is None else prompts
    if not chooses:
        return Split(rows, sampled, heldout, [])
    if selection is None:
        selection = _choose_prompts(ir, sampled, config, seed)
    chosen = {row.prompt for row in selection}
    heldout = [*heldout, *(row for row in rows if row.prompt in chosen)]
    rows = [row for row in rows if row.prompt not in chosen]
    sampled = [row for row in sampled if row.prompt not in chosen]
    for left, what in ((rows, "training rows"), (sampled, "prompts to sample")):
        if not left:
            raise DataError(
                f"no {what} are left beside the prompts that choose the checkpoint",
                help="give more data, or other prompts to --selection",
            )
    return Split(rows, sampled, heldout, selection)


def _choose_prompts(
    ir: PolicyIR, prompts: list[TokenRow], config: ConstraintSettings, seed: int
) -> list[TokenRow]:
    """Of the prompts under each set of clauses a share."""
    scopes = assign_groups(ir, [row.tags for row in prompts], config.adaptive)
    bound = sum(bool(scope) for scope in scopes)
    chosen: set[tuple[int, ...]] = set()
    for scope in dict.fromkeys(scope for scope in scopes if scope):
        mine = [row for row, own in zip(prompts, scopes, strict=True) if own == scope]
        if len({row.prompt for row in mine}) < 2:
            raise DataError(
                "--keep best: a set of clauses has a single prompt, so none can be kept apart",
                help="give more prompts, or --selection FILE",
            )
        most = -(-config.selection_prompts * len(mine) // bound)
        chosen |= _first(mine, lambda row: row.prompt, most, MOST_PROMPTS, seed, already=chosen)
    return [row for row, scope in zip(prompts, scopes, strict=True) if row.prompt in chosen and scope]


def _first(
    rows: Sequence[TokenRow], key: Key, most: int, share: float, seed: int, *, already: set[tuple[int, ...]]
) -> set[tuple[int, ...]]:
    """Keys of at most ``most`` rows and a share of all, at least one: the first by a hash; ``already`` ones count."""
    keys = dict.fromkeys(key(row) for row in rows)
    wanted = min(most, max(1, int(share * len(keys))), len(keys) - 1)
    left = wanted - sum(one in already for one in keys)
    if left <= 0:
        return set()
    return set(sorted((one for one in keys if one not in already), key=lambda one: _rank(one, seed))[:left])


def _rank(ids: tuple[int, ...], seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{','.join(map(str, ids))}".encode()).digest()
