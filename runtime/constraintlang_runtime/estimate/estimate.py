"""The estimate of a run: every phase with its work and seconds, memory, the ratio to plain fine-tuning, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from constraintlang_runtime.estimate import work as formulas
from constraintlang_runtime.estimate.anchor_cache import passes
from constraintlang_runtime.estimate.gpu_table import GPUS_PER_NODE, Machine, Range
from constraintlang_runtime.estimate.memory import GIB, Memory, Part, memory
from constraintlang_runtime.estimate.model_shape import ModelShape
from constraintlang_runtime.estimate.work import Student, Work
from constraintlang_runtime.estimate.workload import Workload
from constraintlang_runtime.settings import ConstraintSettings

PLAIN = "plain fine-tuning"
VERIFICATION = "verification"


@dataclass(frozen=True)
class Phase:
    """One phase: ``work`` of one device for one time, ``times`` it is done, and seconds of all of them."""

    name: str
    times: float
    unit: str
    work: Work
    devices: int
    best: float
    worst: float
    formula: str

    @property
    def flops(self) -> float:
        """FLOPs of the phase on all devices."""
        return (self.work.flops * self.devices + self.work.host) * self.times

    def to_json(self) -> dict[str, object]:
        """The phase as plain data."""
        return {
            "name": self.name, "times": self.times, "unit": self.unit, "flops": self.flops,
            "bytes_per_device": self.work.bytes * self.times, "seconds": [self.best, self.worst],
            "formula": self.formula,
        }  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """What the command prints."""

    student: Student
    load: Workload
    machine: Machine
    phases: tuple[Phase, ...]
    verification: Phase | None
    memory: Memory
    assumptions: tuple[str, ...]

    @property
    def total(self) -> Range:
        """Seconds of the run, verification apart."""
        return Range(sum(p.worst for p in self.phases), sum(p.best for p in self.phases))

    @property
    def ratio(self) -> Range:
        """Seconds of the run over those of plain fine-tuning, at the same assumptions on both sides."""
        plain = self.phases[0]
        ratios = (self.total.best / plain.best, self.total.worst / plain.worst)
        return Range(max(ratios), min(ratios))

    @property
    def step_ratio(self) -> Range:
        """Seconds of a step with the regularizer over those of a plain step."""
        per_step = [p for p in self.phases if p.unit in ("steps", "active steps")]
        worst = [sum(p.worst / p.times for p in per_step if p.times), self.phases[0].worst / self.load.steps]
        best = [sum(p.best / p.times for p in per_step if p.times), self.phases[0].best / self.load.steps]
        ratios = (worst[0] / worst[1], best[0] / best[1])
        return Range(max(ratios), min(ratios))

    @property
    def flops_ratio(self) -> float:
        """FLOPs of the run over those of plain fine-tuning."""
        return sum(p.flops for p in self.phases) / self.phases[0].flops

    @property
    def fits(self) -> bool:
        """Whether every device holds its part, as `train` places it: everything on each."""
        return self.memory.peak <= self.machine.memory

    def least_sharded(self, most: int = 4096) -> int | None:
        """The least number of devices that hold the run if they divide the model (FSDP2); None beyond ``most``."""
        room = self.machine.memory
        count = 1
        while count <= most:
            if self.memory.sharded_peak(count) <= room:
                return count
            count *= 2
        return None

    def to_json(self) -> dict[str, object]:
        """The estimate as plain data; keys are stable."""
        shape, student, load = self.student.shape, self.student, self.load
        machine = asdict(self.machine)
        for key in ("link", "memory"):
            machine[key] = None if machine[key] == float("inf") else machine[key]
        return {
            "model": {
                "source": shape.source, "parameters": shape.parameters, "hidden": shape.hidden,
                "layers": shape.layers, "vocabulary": shape.vocab, "weights": shape.weight_type,
                "trained": student.trained, "adapter": student.adapter,
            },
            "machine": machine,
            "run": {
                "rows": load.rows, "row_tokens": load.row_tokens, "steps": load.steps,
                "active_steps": load.active_steps, "samples": load.samples,
                "groups": len(load.bins), "bins": list(load.bins),
                "passes": load.steps * load.micro_batches * load.batch * self.machine.devices / load.rows,
            },
            "phases": [phase.to_json() for phase in self.phases],
            "verification": None if self.verification is None else self.verification.to_json(),
            "seconds": [self.total.best, self.total.worst],
            "ratio_to_plain": [self.ratio.best, self.ratio.worst],
            "step_ratio": [self.step_ratio.best, self.step_ratio.worst],
            "flops_ratio": self.flops_ratio,
            "memory": {
                "parts": {
                    name: [_part(part) for part in getattr(self.memory, name)]
                    for name in ("always", "training", "sampling")
                },
                "host": _part(self.memory.host),
                "peak_gib": self.memory.peak / GIB,
                "device_gib": None if self.machine.memory == float("inf") else self.machine.memory / GIB,
                "fits": self.fits,
                "if_divided": [_part(self.memory.unit), _part(self.memory.whole)],
                "least_devices_if_divided": self.least_sharded(),
            },
            "assumptions": list(self.assumptions),
        }  # fmt: skip


def _part(part: Part) -> dict[str, object]:
    return {"name": part.name, "gib": part.bytes / GIB, "formula": part.formula}


def seconds(work: Work, machine: Machine) -> Range:
    """Seconds of one device's work.

    Best: the slowest of arithmetic, memory and launches, the others hidden behind it. Worst: their sum, at the low
    shares, with the sum over devices after it. The processor's part comes on top of both.
    """
    compute, moved = work.flops / machine.flops, work.bytes / machine.bandwidth
    best = max(
        compute / machine.compute.best, moved / machine.memory_share.best, work.launches * machine.launch.best
    )
    worst = (
        compute / machine.compute.worst
        + moved / machine.memory_share.worst
        + work.launches * machine.launch.worst
        + work.link / machine.link
    )
    return Range(worst + work.host / machine.host.worst, best + work.host / machine.host.best)


def estimate(
    student: Student,
    load: Workload,
    machine: Machine,
    config: ConstraintSettings,
    classifiers: Sequence[ModelShape] = (),
    *,
    verified_prompts: int = 0,
    notes: Sequence[str] = (),
) -> Estimate:
    """Put the phases together. ``classifiers`` score every sample; ``verified_prompts`` are sampled once at the end."""
    devices = machine.devices
    score_tokens = max(load.new_tokens, 1)
    texts = load.samples + load.scored_corpus

    def scored(count: float) -> Work:
        work = Work()
        for classifier in classifiers:
            work += formulas.scoring(classifier, count, score_tokens, devices)
        return work

    def phase(name: str, times: float, unit: str, work: Work, formula: str, on: int = devices) -> Phase:
        took = seconds(work, machine)
        return Phase(name, times, unit, work, on, took.best * times, took.worst * times, formula)

    def draw(count: int, prompt: int) -> Work:
        return formulas.sampling(student, count, prompt, load.new_tokens, config.sampling_batch_size, devices)

    read = passes(student.shape, load, config, element=student.element, devices=devices)
    groups = len(load.bins)
    control = draw(load.control_samples, load.prompt_tokens).times(load.control_rounds * groups)
    drawn = control + draw(load.start_samples, load.prompt_tokens).times(load.start_rounds * groups)
    backward = "2B + 2·A_lora" if student.adapter else "4B"
    phases = [
        phase(
            PLAIN, load.steps, "steps", formulas.plain_step(student, load, devices),
            f"(2B + {backward} + the head's)·tokens + 12·L·A·W·tokens; weights, gradients and states once",
        ),
        phase(
            "sampled rows", load.active_steps, "active steps", formulas.sampled_rows_step(student, load),
            f"the same over {load.sampled_rows} rows of {load.sample_tokens} tokens",
        ),
        phase(
            "anchor", load.active_steps, "active steps",
            formulas.anchor_step(student, load, read.anchor) if read.reads else Work(),
            f"(2B·tokens + 4·L·A·W·tokens) at {100 * read.anchor:.0f}% of the readings + 2·V·H·sites" if read.reads
            else "the student's own pass",
        ),
        phase(
            "auxiliary and divergence", load.active_steps, "active steps",
            formulas.regularizer_step(student, load, config),
            f"2·(M-1)·R·V·sites; V·sites·(144 + 9e + 24(M-1) + 36M) bytes, {load.sites:g} sites",
        ),
    ]  # fmt: skip
    if load.preserves:
        phases.append(
            phase(
                "preservation",
                load.steps,
                "steps",
                formulas.preservation_step(student, load, read.start),
                f"start model forward at {100 * read.start:.0f}% of the readings, divergence at trained tokens",
            )
        )
    phases += [
        phase(
            "sampling", 1, "run", drawn,
            f"{load.samples:,} completions: 2B·tokens of prompts; weights + 3·KV + V·(36+e) bytes per row and token",
        ),
        phase(
            "scoring", 1, "run", scored(texts),
            f"{texts:,} texts: (2B + 4·L·A·W)·tokens of {len(classifiers)} classifiers",
        ),
        phase(
            "auxiliary fits", 1, "run", formulas.fitting(student, load, config),
            "features 2B·tokens; 3·steps·sites of the trunk; law at prompts 2·V·H", on=1,
        ),
    ]  # fmt: skip
    verified = None
    if verified_prompts:
        verified = phase(
            VERIFICATION, 1, "run", draw(verified_prompts, load.prompt_tokens) + scored(verified_prompts),
            f"{verified_prompts:,} completions, sampled and scored",
        )  # fmt: skip
    return Estimate(
        student, load, machine, tuple(phases), verified, memory(student, load, config, devices),
        (*assumed(student, load, machine, config), *notes),
    )  # fmt: skip


def assumed(student: Student, load: Workload, machine: Machine, config: ConstraintSettings) -> list[str]:
    """What the numbers rest on, in words."""
    compute, share, launch = machine.compute, machine.memory_share, machine.launch
    origin = "measured here" if machine.source == "measured" else "its data sheet"
    found = [
        f"{machine.name}: {machine.flops / 1e12:.3g} TFLOP/s and {machine.bandwidth / 1e9:.4g} GB/s ({origin}), of "
        f"which {100 * compute.worst:g}-{100 * compute.best:g}% and {100 * share.worst:g}-{100 * share.best:g}% are "
        "reached",
        f"a layer costs at least {1e3 * launch.best:g}-{1e3 * launch.worst:g} ms a pass, whatever its size",
        "best: arithmetic, memory and launches overlap; worst: one after the other",
        "ratios take the same shares for every phase; measured on a processor they were up to a quarter higher",
        "the auxiliary fit is where the model is; moving its rows from main memory is not counted",
        f"every row has {load.prompt_tokens} prompt and {load.completion_tokens} completion tokens, every sample "
        f"runs to {load.new_tokens}; shorter ones cost less",
        f"{len(load.bins)} group(s) of prompts with {', '.join(map(str, load.bins)) or 'no'} bins, from the tags that "
        f"the policy names; {100 * load.constrained:g}% of the rows are constrained",
        f"weights and activations of {student.shape.weight_bytes} and {student.element} bytes; attention without its "
        "matrix; no clause becomes vacuous",
        f"optimizer state of {student.states:g} bytes a trained weight",
    ]  # fmt: skip
    if config.schedule == "parallel":
        found.append(
            "parallel: the phases are counted one after the other; where lanes have devices of their own, sampling, "
            "scoring and fitting run beside training"
        )
    if config.auxiliary != "head" or config.auxiliary_ensemble > 1 or config.vargrad_weight > 0:
        found.append(
            "the auxiliary model is counted as one `head` with cross-entropy; the passes of a transformer or an "
            "adapter, further members and path consistency come on top"
        )
    if machine.devices > 1:
        where = "NVLink or PCIe" if machine.devices <= GPUS_PER_NODE else "a network port"
        found.append(
            f"{machine.devices} devices hold a whole copy each (DDP); gradients go over {where} of "
            f"{machine.link / 1e9:g} GB/s, hidden (best) or not (worst); one process fits"
        )
    if config.lora_r:
        found.append("adapters are float32; the backward pass skips frozen weights")
    return found
