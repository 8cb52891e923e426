"""The loss of one micro-batch through hidden states of the student and one chunk of logits at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.data import IGNORED_LABEL, next_tokens, prediction_sites
from constraintlang_runtime.divided import is_divided, most
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.micro_batch import MicroBatch
from constraintlang_runtime.output_head import OutputHead, difference
from constraintlang_runtime.packing import layout, num_positions
from constraintlang_runtime.penalty import preservation_part, regularizer_parts, weighted_rows
from constraintlang_runtime.settings import RegularizerConfig
from constraintlang_runtime.step_loss import StepLoss, router_loss
from constraintlang_runtime.vocabulary_loss import LabelTerm, Term, vocabulary_loss

logger = logging.getLogger(__name__)
PROBES = 4  # sites at which the model's own logits are compared with the head's


def student_passes(batch: MicroBatch, *, apart: bool) -> list[Tensor]:
    """The rows of each pass of the student: all in one, or corpus rows and sampled rows apart (``apart`` allows it).

    Apart where that takes a tenth of the positions away, as with samples of 64 tokens beside rows of 4,096; packed,
    too, where a sample would begin a sequence of that width.
    """
    every = torch.arange(len(batch.joined.input_ids), device=batch.joined.input_ids.device)
    cut = len(batch.corpus.input_ids)
    if not apart or cut == len(every):
        return [every]
    lengths, packs = batch.joined.attention_mask.sum(1).tolist(), batch.joined.packs
    split = num_positions(lengths[:cut], packs=packs) + num_positions(lengths[cut:], packs=packs)
    if split > 0.9 * num_positions(lengths, packs=packs):
        return [every]
    return [every[:cut], every[cut:]]


def has_dropout(model: Any) -> bool:
    """Whether two passes of the model in training differ by what they drop."""
    config = model.config.get_text_config()
    rates = [value for name, value in vars(config).items() if "dropout" in name or name.endswith("pdrop")]
    return any(isinstance(rate, int | float) and rate > 0 for rate in rates) or any(
        isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules()
    )


@dataclass(frozen=True)
class Asked:
    """The terms of a pass over the vocabulary before the preserved rows'; ``owners`` name their groups."""

    terms: list[Term]
    owners: list[str | None]


@dataclass(frozen=True)
class Losses:
    """What the pass over the vocabulary gave: Σ of the terms, and each term's own sum (``vocabulary_loss``)."""

    asked: Asked
    total: Tensor
    sums: Tensor


@dataclass(frozen=True)
class Read:
    """A pass of the student: last hidden states [S, H] at the chosen places; of all places [B, T, H], detached, for a
    student that is its own anchor; the loss of its router; the losses, where they were formed inside the pass.
    """

    hidden: Tensor
    states: Tensor | None
    router: Tensor | None
    losses: Losses | None = None


class ChunkedLoss:
    """The same loss through ``vocabulary_loss``: hidden states of the student, one chunk of logits at a time.

    ``student`` is the model inside any wrapper of a distributed trainer. Where its logits are not its output embeddings
    of the last hidden state with the configuration's scale and soft cap, ``supports`` is false from the first
    comparison on, or it is a ConfigError with ``--loss chunked``. Where FSDP2 divides the weights, the losses are
    formed at the end of the student's pass, while its output embeddings are gathered, once for all chunks; gradients
    reach them as those of any other weight.
    """

    def __init__(self, student: Any, config: RegularizerConfig, precision: torch.dtype | None = None) -> None:
        self._student, self._config, self._precision = student, config, precision
        self._compared = False
        self._is_repeatable = not has_dropout(student)
        self._is_divided = is_divided(student)
        self.supports = OutputHead.of(student) is not None
        if not self.supports:
            self._refuse("its output embeddings are not one whole matrix of floats")

    def __call__(self, model: Any, batch: MicroBatch, sites: Tensor) -> StepLoss | None:
        """The loss, or None without sites or when this model turns out not to be supported.

        ``sites`` [B, T] are those of ``MicroBatch``.
        """
        chosen = self._in_order(batch, sites)
        if not len(chosen):
            if not self._is_divided:
                return None
            # the passes of the other processes need this one's: a site of no term
            chosen = chosen.new_zeros(1)
        places = torch.full_like(sites, -1, dtype=torch.long)
        places.view(-1)[chosen] = torch.arange(len(chosen), device=chosen.device)
        # a pass over divided weights cannot begin inside another
        is_own = self._is_own_anchor(batch)
        asked_before = self._asked(batch, places, None) if self._is_divided and not is_own else None
        kept_before = self._kept(batch, places) if self._is_divided else None

        def losses(hidden: Tensor, states: Tensor | None) -> Losses:
            asked = asked_before or self._asked(batch, places, states if is_own else None)
            kept = self._kept(batch, places) if kept_before is None else kept_before
            head = self._head(OutputHead.of(self._student))
            terms = [*asked.terms, *kept]
            return Losses(asked, *vocabulary_loss(hidden, head, terms, self._config.chunk_sites))

        read = self._read(model, batch, chosen, losses if self._is_divided else None)
        if read is None:
            return None
        found = read.losses or losses(read.hidden, read.states)
        values, owners = found.sums.tolist(), found.asked.owners
        regularizer = {part.group.name: 0.0 for part in batch.groups}
        for owner, value in zip(owners[1:], values[1 : len(owners)], strict=True):
            regularizer[str(owner)] += value
        kept = zip(values[len(owners) :], batch.preserved, strict=True)
        preservation = sum(value / weight for value, (_, weight) in kept) if batch.preserved else None
        return StepLoss(found.total, values[0], regularizer, preservation, router=read.router)

    def _asked(self, batch: MicroBatch, places: Tensor, own: Tensor | None) -> Asked:
        """Labels, and the groups' terms, for which the anchor is read; ``own`` states of a student that is its own."""
        labelled = prediction_sites(batch.joined.labels != IGNORED_LABEL)
        place, by_place = places[labelled].sort()
        weight: float | Tensor = 1.0
        if batch.row_weights is not None:
            weight = batch.row_weights[torch.nonzero(labelled)[:, 0]][by_place]
        terms: list[Term] = [
            LabelTerm(place, next_tokens(batch.joined.input_ids, labelled)[by_place], weight)
        ]
        owners: list[str | None] = [None]
        if batch.groups:
            assert batch.anchor is not None
            # one copy in the products' precision for all groups
            of_anchor = self._anchor_head(batch.anchor)
            with batch.anchor.in_step(0 if own is not None else batch.anchor_passes(self._config)):
                for part in batch.groups:
                    parts = regularizer_parts(
                        part.group, batch.anchor, of_anchor, batch.joined, places,
                        corpus_rows=part.corpus_rows, sampled_rows=part.sampled_rows,
                        corpus_tokens=part.corpus_tokens, config=self._config, own_states=own,
                    )  # fmt: skip
                    terms += parts
                    owners += [part.group.name] * len(parts)
        return Asked(terms, owners)

    def _kept(self, batch: MicroBatch, places: Tensor) -> list[Term]:
        """The terms of the preserved rows, for which the start model is read."""
        start = batch.start_anchor
        if start is None or not (batch.preserved or self._is_divided):
            return []
        of_start = self._anchor_head(start)
        with start.in_step(len(batch.preserved)):
            return [
                preservation_part(start, of_start, batch.corpus, places, rows, kappa)
                for rows, kappa in batch.preserved
            ]

    def _anchor_head(self, anchor: Anchor) -> OutputHead:
        """Whole, in the products' precision."""
        return self._head(anchor.output_head()).cast()

    def _head(self, head: OutputHead | None) -> OutputHead:
        assert head is not None
        return head.in_precision(self._precision if head.weight.dtype == torch.float32 else None)

    def _is_own_anchor(self, batch: MicroBatch) -> bool:
        """Whether p_ref is the student as it stands, so that its states and logits are at hand in this very pass."""
        anchor = batch.anchor
        return (
            anchor is not None
            and anchor.weights is None
            and anchor.model is self._student
            and self._is_repeatable
        )

    def _in_order(self, batch: MicroBatch, sites: Tensor) -> Tensor:
        """The sites as places in the flattened batch, those of one group side by side.

        Then what a divergence reads of a chunk is a slice of it and not a copy. With preserved rows, which may be a
        group's too, the order is that of the batch, so that the sites of every term ascend.
        """
        flat = torch.nonzero(sites.view(-1)).squeeze(1)
        if batch.preserved or not batch.groups:
            return flat
        owner = torch.zeros_like(sites, dtype=torch.long)
        completions = prediction_sites(batch.joined.region)
        for number, part in enumerate(batch.groups, start=1):
            for rows, _ in weighted_rows(
                part.group,
                batch.joined,
                part.corpus_rows,
                part.sampled_rows,
                part.corpus_tokens,
                self._config,
            ):
                owner[rows] = completions[rows] * number
        return flat[owner.view(-1)[flat].argsort(stable=True)]

    def _read(
        self, model: Any, batch: MicroBatch, chosen: Tensor,
        inside: Callable[[Tensor, Tensor | None], Losses] | None,
    ) -> Read | None:  # fmt: skip
        """The student's pass, and ``inside`` at the end of it; None when its head turns out to be another.

        The model itself forms logits at ``PROBES`` places of a pass only.
        """
        width = batch.joined.input_ids.shape[1]
        passes = student_passes(batch, apart=model is self._student and inside is None)
        found: list[Tensor] = []
        states = None
        formed: Losses | None = None
        differences: list[str | None] = []
        routers: list[Tensor] = []
        where: list[Tensor] = []
        for rows in passes:
            part = batch.joined if len(passes) == 1 else batch.joined.rows(rows)
            part = part.columns(-(-part.longest() // 8) * 8)  # few widths, so that kernels are used again
            own = part.input_ids.shape[1]
            mine = chosen[(chosen >= rows[0] * width) & (chosen <= rows[-1] * width + width - 1)]
            if not len(mine):  # all of its rows are left out of this step
                continue
            places = (mine // width - rows[0]) * own + mine % width
            where.append(mine)
            seen: list[tuple[Tensor, Tensor]] = []
            made = layout(part)

            def take(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
                every = made.to_rows(args[0])  # noqa: B023 - the hook is gone before the next turn
                seen.append((every.flatten(0, 1)[places], every.detach()))  # noqa: B023
                return (seen[-1][0][:PROBES][None], *args[1:])  # noqa: B023

            def end(_module: Any, _args: tuple[Any, ...], outputs: Any) -> Any:
                nonlocal states, formed
                if not self._compared:
                    differences.append(self._difference([hidden for hidden, _ in seen], outputs.logits))  # noqa: B023
                hidden, every = seen[-1]  # noqa: B023
                if self._is_own_anchor(batch):
                    if states is None:
                        states = every.new_zeros(*batch.joined.input_ids.shape, every.shape[-1])
                    states[rows, :own] = every  # noqa: B023
                if inside is not None and self._compared_well(differences):
                    formed = inside(hidden, states)
                    outputs.loss = formed.total  # what FSDP2 is to see a gradient of
                return outputs

            head = self._student.get_output_embeddings()
            handles = [
                head.register_forward_pre_hook(take), self._student.register_forward_hook(end, prepend=True),
            ]  # fmt: skip
            try:
                outputs = model(**made.inputs)
            finally:
                for handle in handles:
                    handle.remove()
            if (router := router_loss(self._student, outputs)) is not None:
                routers.append(router)
            found.append(seen[-1][0])
        if not self._compared:
            self._compared = True
            reason = next((one for one in differences if one is not None), None)
            if inside is not None and formed is None:
                reason = reason or "another process has other logits than its output embeddings give"
            if reason is not None:
                self.supports = False
                self._refuse(reason)
                return None
        mean = torch.stack(routers).mean() if routers else None
        if len(found) == 1:
            return Read(found[0], states, mean, formed)
        numbers = torch.full((batch.joined.input_ids.numel(),), -1, device=chosen.device)
        numbers[torch.cat(where)] = torch.arange(len(chosen), device=chosen.device)
        order = numbers[chosen]
        return Read(torch.cat(found)[order], states, mean)

    def _compared_well(self, differences: list[str | None]) -> bool:
        """Whether no process has found a difference, in the first pass; later ones have nothing to compare."""
        if self._compared:
            return True
        bad = any(one is not None for one in differences)
        return most(int(bad), next(self._student.parameters()).device) == 0

    @torch.no_grad()
    def _difference(self, found: list[Tensor], logits: Tensor) -> str | None:
        """Why the head alone does not give the model's logits, if it does not."""
        if len(found) != 1:
            return f"its output embeddings were called {len(found)} times in one pass"
        head = self._head(OutputHead.of(self._student))
        off = difference(head.cast().logits(found[0][:PROBES]), logits[0], head.compute_dtype())
        if off is not None:
            return f"its logits are not its output embeddings of the last hidden state (difference {off:.3g})"
        return None

    def _refuse(self, reason: str) -> None:
        message = f"`loss: chunked` cannot be used with {type(self._student).__name__}: {reason}"
        if self._config.loss == "chunked":
            raise ConfigError(message, help="use --loss plain")
        logger.warning("%s; the plain path is used, which holds the logits of all tokens", message)
