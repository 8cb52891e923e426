"""A new auxiliary model of the form that the settings ask for, and one from the record of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from constraintlang_runtime.auxiliary.adapter import AdapterAuxiliary
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
    embeddings = anchor.head.weight.detach().cpu()
    if config.auxiliary == "transformer":
        return TransformerAuxiliary(
            anchor.vocab_size, num_bins, layers=config.auxiliary_layers, rank=config.auxiliary_rank,
            width=config.auxiliary_width, dropout=config.auxiliary_dropout, embeddings=embeddings,
        )  # fmt: skip
    if config.auxiliary == "adapter":
        assert good_bin is not None
        changes = LowRankChanges.of_model(anchor.model, anchor.head, config.auxiliary_rank)
        return AdapterAuxiliary(anchor.feature_size // 2, changes, good_bin=good_bin)
    return AuxiliaryHead(
        anchor.feature_size, anchor.vocab_size, num_bins, rank=config.auxiliary_rank, width=config.auxiliary_width,
        dropout=config.auxiliary_dropout, embeddings=embeddings,
    )  # fmt: skip


def from_record(record: dict[str, Any]) -> AuxiliaryModel:
    """The model that ``record()`` describes, with weights still to be loaded."""
    rest = {key: value for key, value in record.items() if key != "form"}
    if record["form"] == "head":
        return AuxiliaryHead(**rest)
    if record["form"] == "transformer":
        return TransformerAuxiliary(**rest)
    changes = LowRankChanges(rest["names"], [tuple(shape) for shape in rest["shapes"]], rest["rank"])
    return AdapterAuxiliary(rest["hidden_size"], changes, good_bin=rest["good_bin"])
