"""The parts of a round and of a step, each by itself: sampling, scoring, the auxiliary model's fit, the vocabulary's loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from floors import measured_peak
from timing import OUT_OF_MEMORY, freed, interleaved, summary
from workload import Bench, Workload

SITES = 256


def round_parts(work: Workload, repeats: int) -> list[dict[str, Any]]:
    """Sampling a completion, scoring it (by the testbed's classifier where it is there), a step of the fit."""
    from constraintlang_runtime.auxiliary import fit
    from constraintlang_runtime.fitting import read_features
    from constraintlang_runtime.rounds import score_rows
    from constraintlang_runtime.sampling import sample
    from constraintlang_runtime.scorers.binding import bind_scorers
    from constraintlang_runtime.scorers.pool import ScoringPool
    from constraintlang_runtime.settings import ConstraintSettings

    bench = Bench(work)
    trainer = bench.trainer({})
    engine, group = trainer.engine, trainer.groups[0]
    prompts = [replace(row, completion=()) for row in (group.prompts * work.batch)[: 2 * work.batch]]
    law = trainer.constraint.law
    rows = sample(bench.model, bench.tokenizer, prompts, law, seed=0, batch_size=2 * work.batch)
    tokens = sum(len(row.completion) for row in rows)
    pool, scorer = engine.pool, "a hash (nothing)"
    classifier = Path(work.shared) / "testbed" / "toxicity-classifier"
    if work.shape == "testbed":
        spec = [f"toxicity={classifier}#toxic"]
        from constraintlang_runtime.scorers.binding import parse_scorer_options

        bound = bind_scorers(bench.policy.ir, parse_scorer_options(spec), folder=bench.folder)
        pool = ScoringPool(bench.policy.ir.attributes, bound)
        scorer = "testbed classifier"
    bins = group.target.bin_index(score_rows(engine.pool, group.clauses, rows, bench.tokenizer))
    data = read_features(engine.anchor, rows, bins, trainer.pad_id, 256)
    batch_size, steps = ConstraintSettings().auxiliary_batch_size, 4

    def fit_once(number: int) -> None:
        group.head.requires_grad_(True)
        fit(
            group.head, data, engine.anchor.logits_from, steps=steps, learning_rate=1e-4,
            batch_size=batch_size, consistency_weight=0.0, weight_decay=0.1, seed=number + 10,
        )  # fmt: skip
        group.head.requires_grad_(False)

    seconds = interleaved(
        {
            "sampling": lambda number: sample(
                bench.model, bench.tokenizer, prompts, law, seed=number, batch_size=2 * work.batch
            ),
            "scoring": lambda number: score_rows(pool, group.clauses, _fresh(rows, number), bench.tokenizer),
            "auxiliary fit": fit_once,
        },
        repeats,
        bench.device,
    )  # fmt: skip
    units = {
        "sampling": ("completions", len(rows), {"tokens": tokens}),
        "scoring": ("texts", len(rows), {"scorer": scorer}),
        "auxiliary fit": ("steps", steps, {"sites": len(data.tokens), "batch_size": batch_size}),
    }
    found = []
    for name, (unit, count, more) in units.items():
        one = summary(seconds[name])
        if "seconds" in one:
            one["seconds_per_unit"] = one["seconds"] / count
        found.append(
            {
                "part": "parts",
                "system": name,
                **one,
                "unit": unit,
                "count": count,
                **more,
                "workload": work.to_json(),
            }
        )
    return found


def _fresh(rows: list[Any], number: int) -> list[Any]:
    """The rows with other prompts, so that no cache of scores answers."""
    return [replace(row, prompt=(*row.prompt, 3 + (number + 7) % 90)) for row in rows]


def vocabulary_losses(
    vocabularies: list[int], hidden_size: int, device: str, bf16: bool, repeats: int
) -> list[dict[str, Any]]:
    """The fused loss by size of the vocabulary: labels alone, and with a divergence from a frozen or a current anchor.

    Floor: the matrix products, 6·H·V FLOPs a site for the student, 2·H·V for a frozen anchor, 2·R·V for the auxiliary
    model, at the machine's measured peak.
    """
    from constraintlang_runtime.auxiliary import AuxiliaryHead
    from constraintlang_runtime.output_head import OutputHead
    from constraintlang_runtime.regularizer import target_log_probs
    from constraintlang_runtime.vocabulary_loss import DivergenceTerm, LabelTerm, vocabulary_loss

    place = torch.device(device)
    precision = torch.bfloat16 if bf16 else None
    top = measured_peak(place, torch.bfloat16 if bf16 else torch.float32)
    rank, chunk = 32, 1024
    sites = SITES if place.type == "cpu" else 4096

    def of(vocab: int) -> list[dict[str, Any]]:
        rows = []
        torch.manual_seed(0)
        with place:
            hidden = torch.randn(sites, hidden_size).requires_grad_()
            weight = (torch.randn(vocab, hidden_size) / hidden_size**0.5).requires_grad_()
            frozen = OutputHead(weight.detach() * 1.1, None, 1.0, None, precision)
            own = OutputHead(weight, None, 1.0, None, precision)
            auxiliary = AuxiliaryHead(2 * hidden_size, vocab, 2, rank=rank, width=128).requires_grad_(False)
            features = torch.randn(sites, 2 * hidden_size)
            labels = torch.randint(vocab, (sites,))
            numbers = torch.arange(sites)
            potential = torch.tensor([0.0, -3.0])
        auxiliary.eval()
        label = LabelTerm(numbers, labels)
        values = _Values(auxiliary, features, potential)
        cast = frozen.cast()
        states = hidden.detach()
        terms = {
            "labels": [label],
            "labels, reverse to a frozen anchor": [
                label,
                DivergenceTerm(
                    numbers,
                    lambda window, c=cast, h=states, v=values: target_log_probs(
                        c.logits(h[window]), v(window)
                    ),
                    "reverse",
                ),
            ],
            "labels, reverse to the current anchor": [
                label,
                DivergenceTerm(numbers, values, "reverse", tilts_own=True),
            ],
        }

        def call(name: str, terms: Any = terms, hidden: Any = hidden, own: Any = own) -> None:
            hidden.grad = own.weight.grad = None
            vocabulary_loss(hidden, own, terms[name], chunk)[0].backward()

        def unfused(_: int, hidden: Any = hidden, own: Any = own, labels: Any = labels) -> None:
            hidden.grad = own.weight.grad = None
            with torch.autocast(device.split(":")[0], dtype=precision, enabled=precision is not None):
                logits = torch.nn.functional.linear(hidden, own.weight).float()
            torch.nn.functional.cross_entropy(logits, labels).backward()

        systems: dict[str, Any] = {"cross entropy of torch": unfused}
        systems |= {name: (lambda number, name=name: call(name)) for name in terms}
        seconds = interleaved(systems, repeats, place)
        for name in systems:
            one = summary(seconds[name], seconds["cross entropy of torch"])
            shape = {"vocab": vocab, "sites": sites, "hidden": hidden_size}
            if "seconds" not in one:
                rows.append({"part": "vocabulary", "system": name, **one, **shape})
                continue
            flops = 6.0 * hidden_size * vocab
            flops += 2.0 * rank * vocab if "reverse" in name else 0.0
            flops += 2.0 * hidden_size * vocab if "frozen" in name else 0.0
            floor = sites * flops / top.flops
            rows.append(
                {"part": "vocabulary", "system": name, **one, **shape, "floor_seconds": float(f"{floor:.4g}"),
                 "measured_over_floor": round(one["seconds"] / floor, 3)}
            )  # fmt: skip
        return rows

    found: list[dict[str, Any]] = []
    for vocab in vocabularies:
        try:
            found += of(vocab)
        except torch.OutOfMemoryError:  # of the weights themselves
            found.append(
                {"part": "vocabulary", "system": "all", "not_measured": OUT_OF_MEMORY, "vocab": vocab}
            )
        freed()
    return found


class _Values:
    """log V of a window of the sites."""

    def __init__(self, auxiliary: Any, features: Any, potential: Any) -> None:
        self._of = (auxiliary, features, potential)

    @torch.no_grad()
    def __call__(self, window: slice) -> Any:
        auxiliary, features, potential = self._of
        return auxiliary.log_values(features[window], potential)
