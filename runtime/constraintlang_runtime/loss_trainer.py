"""The loss of ``ConstraintTrainer``: which rows a step trains on, its terms over one N, their means for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from constraintlang_runtime.batching import joined
from constraintlang_runtime.chunked_loss import ChunkedLoss
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import IGNORED_LABEL, Batch, TokenRow
from constraintlang_runtime.divided import is_divided
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.micro_batch import GroupRows, MicroBatch
from constraintlang_runtime.output_head import makes_kernels, precision_of
from constraintlang_runtime.packing import check_packing
from constraintlang_runtime.row_weights import RowWeights
from constraintlang_runtime.staged_trainer import StagedTrainer
from constraintlang_runtime.step_loss import StepLoss, plain_loss

NUMBERS_OF_ROWS = 8  # of a micro-batch that rows are left out of, where each number costs kernels of its own


class LossTrainer(StagedTrainer):
    """A trainer whose loss is the language model's on the rows that are kept, the regularizer's and preservation's.

    Equation: L = (1/N) [Σ_corpus -w log p + Σ_d ρ_d Σ_sites D(q̂_d, p) + Σ_d κ_d Σ KL(p_0 ‖ p)], N the corpus tokens
    of the whole optimizer step, w ``RowWeights`` (docs/method.md, "The regularizer"). Rows that are left out of the
    loss are still held to the start model where a `preserve` clause covers them.
    """

    engine: ConstraintEngine
    constraint: ConstraintConfig
    pad_id: int
    row_weights: RowWeights | None

    def start_losses(self) -> None:
        """Set what the loss counts; before the first step."""
        self._micro_step, self._num_micro_batches = 0, 1
        self._batches: Sequence[dict[str, Tensor]] = ()
        self._chunked: ChunkedLoss | None = None
        self._packing_checked = False
        self._rows_weighed = False  # said in the log, once in a run that is resumed, too
        self._term_sums: dict[str, list[float]] = {}  # numerator and denominator since the last log
        self._rows_in_batch = 0
        # a longer run, over whose steps the samples are spread as if this were it
        self.paced_as: ConstraintConfig | None = None

    @property
    def groups(self) -> list[Group]:
        """The groups of prompts that fall under the same clauses."""
        return self.engine.groups

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of one optimizer step and N, its number of labels over all ranks, left out or not."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._num_micro_batches, self._batches = max(1, len(batches)), batches
        total = torch.zeros(1, device=device)
        for batch in batches:
            total += (batch["labels"][:, 1:] != IGNORED_LABEL).sum().to(total)
        if self.args.world_size > 1:
            total = self.accelerator.gather(total)
        return batches, total.sum().clamp_min(1.0)

    def leave_out(self) -> None:
        """What rows weigh in this step by the corpus's projection: ``weight`` [B], 0 for those that are left out.

        After the round of the step, which may be the first after which the regularizer acts.
        """
        engine, active = self.engine, self.engine.active()
        if self.row_weights is None or not active:
            return
        # of every group with a target, so that one whose clauses act later, or after a resume, is weighed alike
        fitted = [number for number, group in enumerate(engine.groups) if group.is_active]
        found = self.row_weights.start(engine.groups, fitted, engine.score)
        if found and not self._rows_weighed:
            self.log(found)
        self._rows_weighed = True
        for batch in self._batches:
            weights = self.row_weights.drawn(
                batch["number"].tolist(), engine.groups, active, self.state.global_step, engine.score_alone
            )
            batch["weight"] = weights.to(batch["labels"].device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """LM loss plus the regularizer and preservation terms, all over one N."""
        self._rows_in_batch = len(inputs["input_ids"])
        if not return_outputs:
            inputs = self._with_part(inputs)
        # every row is seen once in an epoch, so that in the last one none is read again
        again = int(self.state.epoch or 0) + 1 < self.state.num_train_epochs
        corpus = Batch(
            inputs["input_ids"], inputs["attention_mask"], inputs["labels"], inputs["region"], self._packs(),
            torch.full_like(inputs["group"], again, dtype=torch.bool),
        )  # fmt: skip
        trained, weights = inputs["labels"], inputs.get("weight")
        if weights is not None:
            trained = trained.masked_fill((weights == 0)[:, None], IGNORED_LABEL)
        tokens = (trained[:, 1:] != IGNORED_LABEL).sum(1)
        own = float((tokens if weights is None else tokens * weights).sum())
        num_tokens = float(num_items_in_batch) if num_items_in_batch is not None else max(own, 1.0)
        # a mean over the step's micro-batches and processes, so that neither changes what a sampled row weighs
        usual = num_tokens / (self._num_micro_batches * self.args.world_size)
        batch = self._micro_batch(corpus, trained, inputs, usual)
        found = self._step_loss(model, batch, plain=return_outputs)
        loss = found.total / num_tokens
        if found.router is not None:
            loss = loss + found.router / (self._num_micro_batches * self.args.world_size)
        self._note("loss_lm", found.language_model, own)
        self._note("tokens_per_micro_batch", float(batch.joined.attention_mask.sum()), 1.0)
        for name, value in found.regularizer.items():
            self._note(f"loss_regularizer/{name}", value, usual)
        if found.preservation is not None:
            self._note("loss_preserve", found.preservation, usual)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {float(loss.detach())} at step {self.state.global_step}",
                help="lower --learning_rate or --regularizer_weight, and check the rows",
            )
        self._micro_step += 1
        loss = loss * self.accelerator.num_processes  # gradients are averaged over ranks, N is their sum
        return (loss, found.outputs) if return_outputs else loss

    def _with_part(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The rows on which some term of the loss has a part; one at least, so that every process has a pass.

        A row that is left out has none, unless it is preserved or a prefix on which the regularizer acts. Where a new
        number of rows costs more than a row, the numbers are few.
        """
        if "weight" not in inputs or bool(inputs["weight"].all()):
            return inputs
        part = inputs["weight"] > 0
        if self.engine.start_anchor is not None:
            part |= inputs["preserved"].any(dim=1)
        if self.constraint.prefixes != "sampled":
            for number in self.engine.active():
                part |= inputs["group"] == number
        if not part.any():
            part[0] = True
        precision = precision_of(self.args)
        if precision is not None and makes_kernels(part.device, precision):
            # some rows without a part, the shortest, rather than new kernels
            few = max(1, len(part) // NUMBERS_OF_ROWS)
            rest = torch.nonzero(~part).squeeze(1)
            lengths = inputs["attention_mask"][rest].sum(1)
            part[rest[lengths.argsort(stable=True)[: -int(part.sum()) % few]]] = True
        places = torch.nonzero(part).squeeze(1)
        return {key: value[places] for key, value in inputs.items()}

    def _packs(self) -> bool:
        """`--packing`, compared once with rows that stand alone."""
        if self.constraint.packing and not self._packing_checked:
            check_packing(self.model)
            self._packing_checked = True
        return self.constraint.packing

    def _micro_batch(
        self, corpus: Batch, trained: Tensor, inputs: dict[str, Any], usual: float
    ) -> MicroBatch:
        """The corpus rows with the sampled rows that go with them; ``usual`` is N of a mean micro-batch.

        ``trained`` [B, T] are the labels without those of rows that are left out.
        """
        engine = self.engine
        active = engine.active()
        sampled = {g: self._draw_sampled(g) for g in active}
        batch, slices = joined(replace(corpus, labels=trained), sampled, self.pad_id)
        groups = [
            GroupRows(
                self.groups[g], torch.nonzero(inputs["group"] == g).squeeze(1), slices[g],
                self.groups[g].corpus_share * usual,
            )
            for g in active
        ]  # fmt: skip
        return MicroBatch(
            corpus,
            batch,
            groups,
            engine.anchor,
            self._preserved(inputs["preserved"]),
            engine.start_anchor,
            inputs.get("weight"),
        )

    def _preserved(self, covered: Tensor) -> list[tuple[Tensor, float]]:
        """Rows under `preserve` clauses by their weight, the largest κ of their budgets."""
        if self.engine.start_anchor is None or not bool(covered.any()):
            return []
        weights = self.engine.budgets.row_weights(covered)
        found = sorted(set(weights[covered.any(dim=1)].tolist()) - {0.0})
        return [(torch.nonzero(weights == weight).squeeze(1), weight) for weight in found]

    def _step_loss(self, model: Any, batch: MicroBatch, *, plain: bool) -> StepLoss:
        """On the chunked path where it is wanted and supported, else on the plain one.

        Hidden states cannot be taken on the way inside compiled graphs.
        """
        config = self.constraint.regularizer
        if plain or config.loss == "plain" or self.args.torch_compile:
            return plain_loss(model, batch, config)
        sites = batch.sites(config)
        acts = bool(batch.groups or batch.preserved)
        # processes of divided weights take the same path, whose passes come in another order than the plain one's
        if is_divided(self.model) or config.chunks(int(sites.sum()), acts=acts):
            if self._chunked is None:
                self._chunked = ChunkedLoss(self.model, config, precision_of(self.args))
            found = self._chunked(model, batch, sites) if self._chunked.supports else None
            if found is not None:
                return found
        return plain_loss(model, batch, config)

    def _draw_sampled(self, number: int) -> list[TokenRow]:
        """Sampled rows for this micro-batch; a group without rows of its own has as many as all others together."""
        share, args = self.groups[number].corpus_share, self.args
        paced = self.paced_as
        count = (paced or self.constraint).rows_beside(
            self._rows_in_batch * (share if share > 0 else 1.0),
            steps=args.max_steps if paced is None else int(paced.max_steps),
            parts=args.gradient_accumulation_steps * args.world_size,
        )  # fmt: skip
        return self.engine.sampled_rows(number, count, self.state.global_step, self._micro_step)

    def _note(self, key: str, value: float, count: float) -> None:
        """Add to the mean of a term since the last log: its sum, and what that is to be divided by."""
        value_before, count_before = self._term_sums.get(key, (0.0, 0.0))
        self._term_sums[key] = [value_before + value, count_before + count]

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Add the means of the loss terms since the last log; lists, which no dashboard plots, go to the history."""
        if "loss" in logs:
            logs = {
                **logs,
                **{key: value / max(count, 1.0) for key, (value, count) in self._term_sums.items()},
            }
            self._term_sums = {}
        lists = {key: value for key, value in logs.items() if isinstance(value, list)}
        super().log({key: value for key, value in logs.items() if key not in lists}, start_time)
        self.state.log_history[-1].update(lists)
