"""How `constraintc estimate` shows its numbers to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from constraintc.output import print_table, visible_text

if TYPE_CHECKING:
    from constraintlang_compiler.sample_plan import ClausePlan
    from constraintlang_runtime.estimate.estimate import Estimate

GIB = 2**30


def print_estimate(found: Estimate, plans: Sequence[ClausePlan], domains: dict[str, int]) -> None:
    """The tables, and under them what they rest on."""
    student, load, machine = found.student, found.load, found.machine
    shape = student.shape
    print(
        visible_text(
            f"model {shape.source}: {shape.parameters / 1e6:,.4g} M weights in {shape.weight_type}, "
            f"{student.trained / 1e6:,.4g} M trained"
        )
    )
    print(f"machine {machine.devices} x {machine.name}")
    seen = load.steps * load.micro_batches * load.batch * machine.devices
    print(
        f"run {load.steps:,} steps, {load.active_steps:,} of them regularized, "
        f"{seen:,} rows ({seen / load.rows:.3g} passes), {load.samples:,} samples\n"
    )
    phases = [*found.phases, *([] if found.verification is None else [found.verification])]
    print_table(
        ("phase", "FLOPs", "time", "formula"),
        [(p.name, f"{p.flops:.3g}", span(p.best, p.worst), p.formula) for p in phases],
    )
    total, step, ratio = found.total, found.step_ratio, found.ratio
    print(f"\nthe run, verification apart: {span(total.best, total.worst)}")
    print(
        f"against plain fine-tuning: a regularized step takes {between(step.best, step.worst)} times as long, the run "
        f"{between(ratio.best, ratio.worst)} times, with {found.flops_ratio:.2f} times the FLOPs\n"
    )
    rows = []
    for when, parts in (
        ("always", found.memory.always),
        ("in a step", found.memory.training),
        ("sampling", found.memory.sampling),
        ("main memory", (found.memory.host,)),
    ):
        rows += [(part.name, when, f"{part.bytes / GIB:.2f}", part.formula) for part in parts]
    print_table(("memory", "when", "GiB", "formula"), rows)
    print(
        f"\npeak {found.memory.peak / GIB:.2f} GiB on each device of {_room(machine.memory)}: {_fit(found)}\n"
    )
    columns = ("statement", "demand", "confidence", "least", "true value", "needed")
    print_table(columns, [one.cells(with_prompts=False) for one in plans])
    for one in plans:
        if one.note:
            print(visible_text(f"{one.name}: {one.note}"))
    for domain, number in domains.items():
        print(visible_text(f"{domain}: {number:,} prompts verify all of its statements"))
    print("\nassumed:")
    for line in found.assumptions:
        print(visible_text(f"- {line}"))


def span(best: float, worst: float) -> str:
    """Seconds from best to worst in a unit that fits the worst.

    >>> span(30, 90), span(0, 0), span(3600, 86400)
    ('30-90 s', '-', '1-24 h')
    """
    if worst == 0:
        return "-"
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if worst >= 2 * size or unit == "ms":
            return f"{between(best / size, worst / size)} {unit}"
    raise AssertionError("the last unit fits")


def between(low: float, high: float) -> str:
    """Two numbers with three digits, or one where they look alike."""
    ends = [f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in (low, high)]
    return ends[0] if ends[0] == ends[1] else "-".join(ends)


def _room(memory: float) -> str:
    return "unknown size" if memory == float("inf") else f"{memory / GIB:.1f} GiB"


def _fit(found: Estimate) -> str:
    if found.fits:
        return "it fits"
    least = found.least_sharded()
    if least is None:
        return "it does not fit; lower the batch, --max_length or --chunk_sites, or use --lora_r"
    return (
        "it does not fit; --lora_r, --train_dtype stored, --gradient_checkpointing or a smaller batch need less; "
        f"{least} devices hold it that divide weights and optimizer (`train --fsdp true`, which is FSDP2)"
    )
