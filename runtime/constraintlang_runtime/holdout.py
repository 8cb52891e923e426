"""What a run keeps apart from training: rows that measure losses, and prompts that choose the checkpoint.

The choice depends on the seed and on the content of a row alone, not on its place or on the method, so that a
baseline keeps the same rows apart. A policy without `preserve` clauses and a run that keeps its last checkpoint take
nothing away.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from constraintlang_compiler.domains import domain_name, matches
from constraintlang_compiler.ir import PolicyIR, RowsLoss
from constraintlang_compiler.scopes import utility_clauses
from constraintlang_runtime.data import TokenRow, prompt_rows
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.grouping import assign_groups
from constraintlang_runtime.settings import ConstraintSettings

MOST_ROWS = 0.05  # of the training rows (of a `preserve` domain), whatever the settings ask for
MOST_PROMPTS = 0.1  # of the sampled prompts of a group

Ids = tuple[int, ...]


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
            "nothing is measured on held-out rows",
            help="leave it out; `preserve` clauses and `--keep best` use such rows",
            parameter="heldout",
        )
    if selection is not None and not chooses:
        raise ConfigError(
            "the last checkpoint is kept, so no prompts choose it",
            help="add --keep best",
            parameter="selection",
        )
    if heldout is None:
        kept: set[Ids] = set()
        domains = [clause.domain for clause in utility] + ([None] if chooses else [])
        for domain in domains:
            inside = {row.ids for row in rows if matches(domain, row.tags)}
            kept |= _first(inside, _number(inside, config.heldout_rows, MOST_ROWS), seed, already=kept)
        heldout = [row for row in rows if row.ids in kept]
        rows = [row for row in rows if row.ids not in kept] if kept else rows
    else:
        for clause in utility:
            assert isinstance(clause.statistic, RowsLoss)
            if clause.statistic.quantity == "accuracy":
                continue  # of questions, which may be a task's and none of the rows
            if not clause.per and not any(matches(clause.domain, row.tags) for row in heldout):
                raise DataError(
                    f"no row lies in the domain of `{clause.name}` ({domain_name(clause.domain)})",
                    help="add --heldout DOMAIN=FILE, or leave --heldout out: then training rows are kept apart",
                    parameter="heldout",
                )
    sampled = prompt_rows(rows) if prompts is None else prompts
    if not chooses:
        return Split(rows, sampled, heldout, [])
    if selection is None:
        selection = _choose_prompts(ir, sampled, Counter(row.prompt for row in rows), config, seed)
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
    ir: PolicyIR,
    prompts: list[TokenRow],
    num_rows: Mapping[Ids, int],
    config: ConstraintSettings,
    seed: int,
) -> list[TokenRow]:
    """Of the prompts under each set of clauses a share.

    A prompt that many rows begin with, such as the first word of a `text` row, is passed over where it would take more
    than a few per cent of the training rows (``num_rows`` per prompt) with it.
    """
    scopes = assign_groups(ir, [row.tags for row in prompts], config.adaptive)
    bound = sum(bool(scope) for scope in scopes)
    chosen: set[Ids] = set()
    for scope in dict.fromkeys(scope for scope in scopes if scope):
        mine = [row for row, own in zip(prompts, scopes, strict=True) if own == scope]
        if len({row.prompt for row in mine}) < 2:
            raise DataError(
                "`best` keeps prompts apart, and a set of clauses has a single one",
                parameter="keep",
                help="give more prompts, or --selection FILE",
            )
        keys = {row.prompt for row in mine}
        wanted = _number(keys, -(-config.selection_prompts * len(mine) // bound), MOST_PROMPTS)
        room = max(2 * wanted, int(MOST_ROWS * sum(num_rows.get(key, 0) for key in keys)))
        chosen |= _first(keys, wanted, seed, already=chosen, num_rows=num_rows, room=room)
    return [row for row, scope in zip(prompts, scopes, strict=True) if row.prompt in chosen and scope]


def _number(keys: set[Ids], most: int, share: float) -> int:
    """How many of the keys are taken: at most ``most`` and a share of them, at least one, and not all."""
    return min(most, max(1, int(share * len(keys))), len(keys) - 1)


def _first(
    keys: set[Ids],
    wanted: int,
    seed: int,
    *,
    already: set[Ids],
    num_rows: Mapping[Ids, int] | None = None,
    room: int = 0,
) -> set[Ids]:
    """The first keys by a hash, ``wanted`` of them with those of ``already``, whose rows together fit into ``room``."""
    found: set[Ids] = set()
    left = wanted - len(keys & already)
    for key in sorted(keys - already, key=lambda key: _rank(key, seed)):
        if len(found) >= left:
            break
        cost = 0 if num_rows is None else num_rows.get(key, 0)
        if cost <= room:
            room -= cost
            found.add(key)
    return found


def _rank(ids: Ids, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{','.join(map(str, ids))}".encode()).digest()
