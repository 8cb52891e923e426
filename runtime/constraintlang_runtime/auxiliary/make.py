"""A new auxiliary model of the form that the settings ask for, and one from the record of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from constraintlang_runtime.auxiliary.adapter import AdapterAuxiliary
from constraintlang_runtime.auxiliary.ensemble import Ensemble
from constraintlang_runtime.auxiliary.head import AuxiliaryHead
from constraintlang_runtime.auxiliary.low_rank import LowRankChanges
from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel
from constraintlang_runtime.auxiliary.transformer import TransformerAuxiliary
from constraintlang_runtime.settings import ConstraintSettings

if TYPE_CHECKING:
    from constraintlang_runtime.anchor import Anchor


def make_auxiliary(
    anchor: Anchor, config: ConstraintSettings, num_bins: int, *, good_bin: int | None
) -> AuxiliaryModel:
    """A new model beside an anchor, before any fit; ``good_bin`` is the bin of a binary statistic that is wanted."""
    members = [_one(anchor, config, num_bins, good_bin) for _ in range(config.auxiliary_ensemble)]
    return members[0] if len(members) == 1 else Ensemble(members)


def _one(anchor: Anchor, config: ConstraintSettings, num_bins: int, good_bin: int | None) -> AuxiliaryModel:
    embeddings = anchor.head.weight.detach().cpu()
    if config.auxiliary == "transformer":
        return TransformerAuxiliary(
            anchor.vocab_size, num_bins, layers=config.auxiliary_layers, rank=config.auxiliary_rank,
            width=config.auxiliary_width, dropout=config.auxiliary_dropout, embeddings=embeddings,
        )  # fmt: skip
    if config.auxiliary == "adapter":
        assert good_bin is not None
        changes = LowRankChanges.of_model(
            anchor.model, anchor.head, config.auxiliary_rank, config.auxiliary_dropout
        )
        return AdapterAuxiliary(anchor.feature_size // 2, changes, good_bin=good_bin)
    return AuxiliaryHead(
        anchor.feature_size, anchor.vocab_size, num_bins, rank=config.auxiliary_rank, width=config.auxiliary_width,
        dropout=config.auxiliary_dropout, token_odds=config.auxiliary_token_odds, embeddings=embeddings,
    )  # fmt: skip


def from_record(record: dict[str, Any]) -> AuxiliaryModel:
    """The model that ``record()`` describes, with weights still to be loaded."""
    rest = {key: value for key, value in record.items() if key != "form"}
    if record["form"] == "ensemble":
        return Ensemble([from_record(member) for member in record["members"]])
    if record["form"] == "head":
        return AuxiliaryHead(**rest)
    if record["form"] == "transformer":
        return TransformerAuxiliary(**rest)
    shapes = [(size_in, size_out) for size_in, size_out in rest["shapes"]]
    changes = LowRankChanges(rest["names"], shapes, rest["rank"], rest["dropout"])
    return AdapterAuxiliary(rest["hidden_size"], changes, good_bin=rest["good_bin"])
