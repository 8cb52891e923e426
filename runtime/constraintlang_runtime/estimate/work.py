"""The work of each phase of a run: FLOPs, bytes through memory and layers started, per device, by formula.

Symbols in the formulas: B weights of the layers' matrices, V vocabulary, H hidden size, L layers, A attention width,
W tokens that a row is padded to, M bins, R rank, e bytes of a number of the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from constraintlang_runtime.estimate.model_shape import ModelShape
from constraintlang_runtime.estimate.workload import Workload
from constraintlang_runtime.settings import ConstraintSettings

CLASSIFIER_BATCH = 64  # the default of `scorers/classifier.py`
EXPLAINED_SEQUENCES = 1024  # `fitting.EXPLAINED_SEQUENCES`
HELDOUT_SHARE = 0.1  # of `auxiliary.heldout_sequences`
# Bytes that one number of the vocabulary axis moves, counted along the code: each elementwise operation reads its
# inputs and writes its result, in fp32 (4 bytes) or in the model's type.
LOSS_BYTES = 28  # language_model_loss: float copy, log_softmax, its gradient and the way back
DIVERGENCE_BYTES = 144  # target_log_probs and token_divergence with their gradients
HEAD_BYTES_FREE, HEAD_BYTES_BIN = 24, 36  # all_tokens and log_values: per bin but one, and per bin
DRAW_BYTES = 36  # a softmax and a draw in generate
FIT_LAUNCHES = 4  # of a step of the fit, in layers of a model: its trunk, loss and optimizer
CACHE_COPIES = 3  # generate appends by copying: read, write, and the read of attention


@dataclass(frozen=True)
class Work:
    """The work of one phase on one device, once; ``host`` FLOPs run on the processor, ``link`` bytes leave."""

    flops: float = 0.0
    bytes: float = 0.0
    launches: float = 0.0
    host: float = 0.0
    link: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.flops + other.flops, self.bytes + other.bytes, self.launches + other.launches,
            self.host + other.host, self.link + other.link,
        )  # fmt: skip

    def times(self, factor: float) -> Work:
        """The same work so many times."""
        return Work(
            self.flops * factor,
            self.bytes * factor,
            self.launches * factor,
            self.host * factor,
            self.link * factor,
        )


@dataclass(frozen=True)
class Student:
    """A model as it is trained: what of it is trained, in which bytes, with an adapter or whole.

    ``trained`` weights of ``trained_bytes`` each; ``adapter`` of them stand beside the matrices; ``element`` bytes of
    an activation; ``states`` bytes of optimizer state per trained weight.
    """

    shape: ModelShape
    trained: int
    trained_bytes: int
    adapter: int
    element: int
    states: float
    checkpointing: bool

    def forward(self, tokens: float, width: float, logits: float) -> Work:
        """One pass: 2(B + adapter)·tokens + 4·L·A·W·tokens + 2·V·H·logits (PaLM, arXiv 2204.02311, appendix B)."""
        shape = self.shape
        flops = 2.0 * (shape.blocks + self.adapter) * tokens + 2.0 * shape.head * logits
        flops += 4.0 * shape.layers * shape.attention_width * width * tokens
        moved = (shape.blocks + shape.head) * shape.weight_bytes + 2 * tokens * self.activation_bytes
        return Work(flops, moved + logits * shape.vocab * self.element, shape.layers + 1)

    def backward(self, tokens: float, width: float, logits: float) -> Work:
        """Twice a forward pass; once where the weights are frozen, and twice for an adapter alone.

        With gradient checkpointing the layers run forward once more.
        """
        once = self.forward(tokens, width, logits)
        work = once.times(2)
        if self.adapter:
            frozen = 2.0 * self.shape.blocks * tokens + 2.0 * self.shape.head * logits
            work = Work(work.flops - frozen, work.bytes, work.launches)
        return work + self.forward(tokens, width, 0) if self.checkpointing else work

    @property
    def activation_bytes(self) -> float:
        """Bytes that a token leaves for the backward pass, all layers, attention without its matrix.

        Equation per layer: e(4H + 2A + 2K + m·I) + 16H, with m = 4 for a gated MLP and 2 for a plain one; the last term
        is what two norms keep in fp32. After Korthikanti et al. 2022 (arXiv 2205.05198), counted for these layers.
        """
        shape = self.shape
        keys = shape.kv_heads * shape.head_dim
        numbers = 4 * shape.hidden + 2 * shape.attention_width + 2 * keys
        numbers += (4 if shape.gated else 2) * shape.intermediate
        return shape.layers * (self.element * numbers + 16.0 * shape.hidden)


def plain_step(student: Student, load: Workload, devices: int) -> Work:
    """One optimizer step of plain fine-tuning: its micro-batches, the optimizer, and the sum over devices."""
    tokens = float(load.batch * load.row_tokens)
    trained = load.batch * load.completion_tokens
    vocab, element = student.shape.vocab, student.element
    loss = vocab * (tokens * 3 * element + trained * (LOSS_BYTES + 5 * element))
    micro = student.forward(tokens, load.row_tokens, tokens) + student.backward(
        tokens, load.row_tokens, tokens
    )
    update = student.trained * (4.0 * student.trained_bytes + 2 * student.states)
    link = 2.0 * (devices - 1) / devices * student.trained * student.trained_bytes
    return (micro + Work(bytes=loss)).times(load.micro_batches) + Work(bytes=update, link=link)


def sampled_rows_step(student: Student, load: Workload) -> Work:
    """What sampled rows add to a step: their own passes, and the padding of the corpus rows to their length."""
    if not load.sampled_rows:
        return Work()
    before, width = float(load.batch * load.row_tokens), load.width
    after = float((load.batch + load.sampled_rows) * width)
    full = student.forward(after, width, after) + student.backward(after, width, after)
    alone = student.forward(before, load.row_tokens, before) + student.backward(
        before, load.row_tokens, before
    )
    logits = (after - before) * student.shape.vocab * 3 * student.element
    more = Work(full.flops - alone.flops, max(0.0, full.bytes - alone.bytes) + logits)
    return more.times(load.micro_batches)


def anchor_step(student: Student, load: Workload, computed: float = 1.0) -> Work:
    """Forward passes of p_ref over the rows that the regularizer acts on; logits at their sites alone.

    The layers run at the share ``computed`` of the readings; the hidden states of the others are read, and every
    reading pays the output embeddings.
    """
    shape = student.shape
    rows = load.constrained_rows + load.sampled_rows
    calls = max(1, len(load.bins) * (int(load.constrained_rows > 0) + int(load.sampled_rows > 0)))
    head = _head_alone(student, load.sites) + Work(
        bytes=shape.head * shape.weight_bytes * (calls - 1), launches=calls - 1
    )
    return _kept(student, rows * load.width, load.width, load.sites, head, calls, computed).times(
        load.micro_batches
    )


def _head_alone(student: Student, sites: float) -> Work:
    """The output embeddings of kept states."""
    shape = student.shape
    moved = shape.head * shape.weight_bytes + sites * shape.vocab * student.element
    return Work(2.0 * shape.head * sites, moved, 1)


def _kept(
    student: Student, tokens: float, width: float, sites: float, head: Work, calls: int, computed: float
) -> Work:
    """A pass whose layers run at a share of the readings, ``calls`` times; states of the others are read."""
    shape = student.shape
    layers = student.forward(tokens, width, 0)
    layers = Work(
        layers.flops, layers.bytes - shape.head * shape.weight_bytes + (calls - 1) * shape.blocks * shape.weight_bytes,
        calls * shape.layers,
    )  # fmt: skip
    states = Work(bytes=(1 - computed) * sites * shape.hidden * student.element)
    return layers.times(computed) + states + head


def head_flops(
    shape: ModelShape, config: ConstraintSettings, bins: int, sites: float, *, every_token: bool
) -> float:
    """FLOPs of the auxiliary model at sites: the trunk, and the product with V token factors or with one."""
    features, width, free = 2 * shape.hidden, config.auxiliary_width, bins - 1
    trunk = 2.0 * (2 * features * width + width * width + width * free * (1 + config.auxiliary_rank))
    tokens = shape.vocab if every_token else 1
    return sites * (trunk + 2.0 * free * config.auxiliary_rank * tokens)


def regularizer_step(student: Student, load: Workload, config: ConstraintSettings) -> Work:
    """The auxiliary model over the vocabulary at every site, the target, and the divergence with its gradient."""
    work = Work()
    for bins in load.bins:
        sites = load.sites / len(load.bins)
        moved = DIVERGENCE_BYTES + 9 * student.element + HEAD_BYTES_FREE * (bins - 1) + HEAD_BYTES_BIN * bins
        flops = head_flops(student.shape, config, bins, sites, every_token=True)
        work += Work(flops, sites * student.shape.vocab * moved)
    return work.times(load.micro_batches)


def preservation_step(student: Student, load: Workload, computed: float = 1.0) -> Work:
    """The start model on rows of `preserve` domains, and the divergence from it at their trained tokens.

    ``computed`` as of ``anchor_step``.
    """
    rows = load.batch * load.preserved
    if not rows:
        return Work()
    sites = rows * load.completion_tokens
    moved = Work(bytes=sites * student.shape.vocab * (DIVERGENCE_BYTES + 9 * student.element))
    head = _head_alone(student, sites)
    once = _kept(student, rows * load.width, load.width, sites, head, 1, computed)
    return (once + moved).times(load.micro_batches)


def sampling(student: Student, count: int, prompt: int, new: int, batch_size: int, devices: int) -> Work:
    """Completions by generate: prefill, then one pass per token that reads all weights and the cache.

    Every completion is taken to run to the cap. Bytes of a decoding pass: weights + 3 · rows · context · cache of a
    token + rows · V · (36 + e); FLOPs as a forward pass of one token per row.
    """
    if not count:
        return Work()
    batches = math.ceil(count / batch_size)
    rows = math.ceil(count / batches)
    shape = student.shape
    prefill = student.forward(rows * prompt, prompt, rows)
    context = prompt + (new - 1) / 2  # its mean over the passes
    one = student.forward(rows, context, rows)
    cache = CACHE_COPIES * rows * context * shape.kv_bytes(student.element)
    decode = Work(one.flops, one.bytes + cache + rows * shape.vocab * DRAW_BYTES, one.launches).times(new)
    return (prefill + decode).times(math.ceil(batches / devices))  # of the device that has most


def scoring(classifier: ModelShape, texts: float, tokens: int, devices: int) -> Work:
    """A classifier on texts: 2B + 4·L·A·W per token, in batches of 64."""
    flops = (2.0 * classifier.blocks + 4.0 * classifier.layers * classifier.attention_width * tokens) * tokens
    batches = math.ceil(texts / CLASSIFIER_BATCH / devices)
    return Work(
        flops * texts / devices, batches * classifier.blocks * classifier.weight_bytes,
        batches * (classifier.layers + 1),
    )  # fmt: skip


def fitting(student: Student, load: Workload, config: ConstraintSettings) -> Work:
    """The auxiliary fits: features by p_ref, training beside it, the law at prompts, what it explains."""
    work = Work()
    has_odds = config.has_token_odds
    for number, (rows, steps) in enumerate(load.corpus_fits()):
        rows = 0 if has_odds else rows  # counted by their tokens, without a pass of p_ref
        bins = load.bins[number // max(1, len(load.fits))]
        samples = load.fits[number % len(load.fits)][0]
        tokens = samples * load.sample_tokens + rows * (
            load.prompt_tokens + min(load.completion_tokens, load.new_tokens)
        )
        passes = math.ceil(samples / config.sampling_batch_size) + math.ceil(
            rows / config.sampling_batch_size
        )
        read = student.forward(tokens, load.sample_tokens, 0)
        weights = student.shape.blocks * student.shape.weight_bytes
        read += Work(bytes=weights * max(0, passes - 1), launches=(passes - 1) * student.shape.layers)
        sides = 2 if rows else 1
        passes_of_site = 4.0 if has_odds else 3.0  # forward and backward, and the guess at the site after
        sites = steps * config.auxiliary_batch_size * sides * passes_of_site
        checks = 20 * HELDOUT_SHARE * samples * load.new_tokens
        trained = head_flops(student.shape, config, bins, sites + checks, every_token=False)
        full = samples + min(EXPLAINED_SEQUENCES, HELDOUT_SHARE * samples) * load.new_tokens
        moved = HEAD_BYTES_FREE * (bins - 1) + HEAD_BYTES_BIN * bins
        law = Work(
            trained + head_flops(student.shape, config, bins, full, every_token=True)
            + 2.0 * student.shape.head * full,
            full * student.shape.vocab * moved, launches=FIT_LAUNCHES * steps,
        )  # fmt: skip
        work += read + law
    return work
