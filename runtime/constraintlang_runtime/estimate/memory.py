"""Gigabytes of memory that a device needs in a training step and while it samples, by formula."""

from __future__ import annotations

from dataclasses import dataclass

from constraintlang_runtime.estimate.work import Student
from constraintlang_runtime.estimate.workload import Workload
from constraintlang_runtime.settings import ConstraintSettings

GIB = 2**30
CHUNK_BYTES = 24  # logits, log-probabilities, their gradient, a target and two temporaries in fp32


@dataclass(frozen=True)
class Part:
    """Bytes of one kind; ``shards`` says whether several devices could divide them among each other."""

    name: str
    bytes: float
    formula: str
    shards: bool = False


@dataclass(frozen=True)
class Memory:
    """What lies on one device: always, beside it in a training step, and beside it while sampling.

    ``unit`` and ``whole`` come on top of the two where devices divide the model (FSDP2): what a step gathers at a time,
    and the model as it is gathered to sample and to fit.
    """

    always: tuple[Part, ...]
    training: tuple[Part, ...]
    sampling: tuple[Part, ...]
    host: Part
    unit: Part
    whole: Part

    @property
    def peak(self) -> float:
        """The larger of the two."""
        rest = max(sum(part.bytes for part in parts) for parts in (self.training, self.sampling))
        return sum(part.bytes for part in self.always) + rest

    def sharded_peak(self, devices: int) -> float:
        """The same where devices divide weights, gradients, optimizer and snapshots among each other."""

        def own(parts: tuple[Part, ...]) -> float:
            return sum(part.bytes / (devices if part.shards else 1) for part in parts)

        return own(self.always) + max(
            own(self.training) + self.unit.bytes, own(self.sampling) + self.whole.bytes
        )


def memory(student: Student, load: Workload, config: ConstraintSettings, devices: int) -> Memory:
    """The parts of a run's memory."""
    shape, element, vocab = student.shape, student.element, student.shape.vocab
    bins = max(load.bins, default=1)
    weights = (shape.parameters * shape.weight_bytes) + student.adapter * student.trained_bytes
    tables = sum(4.0 * vocab * (config.auxiliary_rank + count - 1) for count in load.bins)
    always: tuple[Part, ...] = (
        Part("weights", weights, "weights x bytes of a weight", shards=True),
        Part("optimizer", student.trained * student.states, "trained weights x bytes of state", shards=True),
        Part(
            "anchor snapshot", float(load.snapshots * student.trained * student.trained_bytes),
            f"{load.snapshots} x trained weights x their bytes", shards=True,
        ),
        Part("auxiliary model", tables, "4 x vocabulary x (rank + bins - 1), each group"),
    )  # fmt: skip
    if config.schedule == "parallel" and devices == 1:  # on several, ranks of their own hold them
        always += (Part("models of the lanes", 2.0 * weights, "2 x weights"),)
    corpus = load.batch * load.row_tokens
    tokens = (load.batch + load.sampled_rows) * load.width if load.active_steps else corpus
    if student.checkpointing:
        kept = tokens * (shape.layers * shape.hidden * element + student.activation_bytes / shape.layers)
        formula = "tokens x (layers x hidden x bytes + one layer)"
    else:
        kept = tokens * student.activation_bytes
        formula = "tokens x layers x (bytes x (4H + 2A + 2K + 4I) + 16H)"
    sites = load.sites if load.active_steps else 0.0
    labelled = load.batch * load.completion_tokens
    at_once = min(config.chunk_sites, sites)
    # the steps before the regularizer acts, which hold more where sites are few
    if config.regularizer.chunks(round(max(labelled, sites)), acts=False):
        at_once = min(config.chunk_sites, max(labelled, sites))
        head = 4.0 * shape.hidden if not student.adapter else 0.0  # its gradient adds up in fp32
        logits = vocab * (at_once * CHUNK_BYTES + head)
        logits_formula = f"vocabulary x (chunk_sites x {CHUNK_BYTES} + 4 x hidden, of a trained head)"
    else:
        logits = vocab * (2.0 * element * tokens + (element + 8) * labelled)
        logits += vocab * sites * (3 * element + 20) if sites else 0.0
        if load.preserved:
            logits += vocab * load.batch * load.preserved * load.completion_tokens * (3 * element + 20)
        logits_formula = "vocabulary x (tokens x 2 bytes + loss and divergence in fp32)"
    chunk = vocab * min(at_once, sites) * 4.0 * ((4 * bins - 1) / bins + 1)
    gradients = float(student.trained * student.trained_bytes)
    training = [
        Part("gradients", gradients, "trained weights x their bytes", shards=True),
        Part("activations", kept, f"{formula} (approximate)"),
        Part("logits", logits, logits_formula),
        Part("auxiliary chunk", chunk, "vocabulary x chunk_sites x 4 x (5 - 1 / bins)"),
    ]
    if element < shape.weight_bytes:
        training.append(
            Part("half copies", float(shape.blocks + shape.head) * element, "autocast, 2 bytes a weight")
        )
    if devices > 1:
        training.append(Part("buckets", gradients, "DDP's copy of the gradients", shards=True))
    rows = (
        min(config.sampling_batch_size, max(load.control_samples, load.start_samples)) if load.samples else 0
    )
    cached = float(rows * load.sample_tokens * shape.kv_bytes(element))
    drawn = (
        Part("KV cache", cached, "rows x tokens x 2 x layers x KV width x bytes"),
        Part("sampling logits", rows * vocab * (element + 8.0), "rows x vocabulary x (bytes + 8)"),
    )  # fmt: skip
    beside = min(load.completion_tokens, load.new_tokens)
    read = [
        count * load.new_tokens + rows_beside * beside
        for (count, _), (rows_beside, _) in zip(load.fits * len(load.bins), load.corpus_fits(), strict=True)
    ]
    host = Part(
        "features of a fit",
        float(max(read, default=0) * 2 * shape.hidden * element),
        "sites x 2 x hidden x bytes",
    )
    unit = Part(
        "gathered in a step", 2.0 * shape.blocks / shape.layers * element + shape.head * (2.0 * element + 4.0),
        "2 layers, the head, and the anchor's head once more in fp32",
    )  # fmt: skip
    whole = Part("gathered to sample", float(shape.parameters) * element, "weights x bytes of a pass")
    return Memory(always, tuple(training), drawn, host, unit, whole)
