"""What a table takes: its rows for every architecture and seed, in the order of their needs, and what each may cost."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from job import ABLATIONS, CONFIGS, Job, Scale, config_of
from scales import PARAMETERS
from stamps import left_to_measure, read_record

TABLES: dict[str, tuple[str, ...]] = {
    "toxigen": (
        "base", "plain", "filtering", "filtering_own", "rl", "reinforce", "etpo", "dpo", "nado_decoding", "dpg",
        "corpus_projection", "ours_paper", "ours", "ours_adaptive", "ours_adaptive_prompt", "ours_parallel",
        "ours_adaptive_parallel",
    ),
    "winrate": ("base", "plain", "filtering", "rl", "nado_decoding", "ours_paper", "ours", "ours_adaptive"),
    "jigsaw": ("jigsaw_base", "sft_lm", "ours_lm", "sft_classification", "ours_classification"),
}  # fmt: skip
COMPARED = "plain"  # losses of every row are compared with this one's, so that it is measured first
# Seconds of a row on one quiet core at testbed scale, training and measuring, until there are records; other scales have none.
EXPECTED = {
    "base": 300, "plain": 430, "filtering": 450, "filtering_own": 600, "nado_decoding": 600, "jigsaw_base": 120, "sft_lm": 320,
    "sft_classification": 320,
}  # fmt: skip
EXPECTED_OTHERS = 750
EXPECTED_AT = "testbed"
TOKENS_A_WORD = 1.35
NO_STEPS = ("ours:base", "guided:train")
IN_ROUNDS = "corpus_projection:train"
# Bytes that a row holds on its device for each parameter: 16 of weights that are trained (float32, their gradient, two moments
# of AdamW), 4 of each copy that it reads beside them.
TRAINED_BYTES, COPY_BYTES = 16, 4
COPIES = {"ours:train": 1, "jigsaw:train": 1, "rl:train": 1, "reinforce:train": 1, "dpg:train": 2}
HELD = {  # a start model in half precision, a plain model that is sampled alone, a critic as large as the policy
    "ours:base": 2, "guided:train": COPY_BYTES, "etpo:train": 2 * (TRAINED_BYTES + COPY_BYTES),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One system on one architecture with one seed; ``needs`` are the systems that must be finished before."""

    system: str
    architecture: str
    seed: int
    needs: tuple[str, ...] = ()
    cores: int = 1

    @property
    def name(self) -> str:
        """As its folder below the architecture's."""
        return f"{self.system}-{self.seed}"

    @property
    def key(self) -> str:
        """Unique in a work folder."""
        return f"{self.architecture}/{self.name}"

    @property
    def needed(self) -> tuple[str, ...]:
        """Keys of the rows that must be finished before."""
        return tuple(f"{self.architecture}/{system}-{self.seed}" for system in self.needs)


def systems_of(table: str) -> tuple[str, ...]:
    """The systems of a table, in its order; those that say `table: NAME` in their configuration come last."""
    if table == "ablations":
        found = yaml.safe_load(ABLATIONS.read_text())
        rows = [name for names in found["questions"].values() for name in names]
        own = [name for name in rows if not (CONFIGS / f"{name}.yaml").exists()]
        if sorted(own) != sorted(found["rows"]):
            raise ValueError(f"{ABLATIONS.name}: `questions` and `rows` name different rows")
        return (COMPARED, found["of"], *rows)
    own = (path.stem for path in sorted(CONFIGS.glob("*.yaml")) if config_of(path.stem).get("table") == table)
    return tuple(dict.fromkeys([*TABLES[table], *own]))


def without_configuration(table: str) -> dict[str, str]:
    """Systems of a table that cannot be run, and why."""
    found = {}
    for system in systems_of(table):
        try:
            config_of(system)
        except FileNotFoundError as error:
            found[system] = str(error)
    return found


def rows_of(
    table: str, scale: Scale, *, only: Sequence[str] = (), seeds: int | None = None,
    architectures: Sequence[str] | None = None, every: bool = False,
) -> list[Row]:  # fmt: skip
    """The rows of a table with those that they need, each after its needs; the first seed of all comes first.

    Headline rows have all seeds on the first architecture and one on each other, the others one on the first;
    ``every`` gives all to all. ``only`` leaves some systems (and what they need); without it, systems that have no
    configuration are left out (``without_configuration`` names them).
    Raises: ValueError for an unknown system or needs in a circle, FileNotFoundError for one without a configuration.
    """
    systems = systems_of(table)
    lost = {} if only else without_configuration(table)
    if unknown := [name for name in only if name not in systems]:
        raise ValueError(f"no row `{unknown[0]}` in the table {table}; it has {', '.join(systems)}")
    names = list(scale.models) if architectures is None else list(architectures)
    if unknown := [name for name in names if name not in scale.models]:
        raise ValueError(f"no architecture `{unknown[0]}` at this scale; it has {', '.join(scale.models)}")
    if table not in ("toxigen", "winrate"):
        names = names[:1]
    count = scale.seeds if seeds is None else seeds
    found: dict[str, Row] = {}
    for system in systems:
        if (only and system not in only) or system in lost:
            continue
        whole = every or bool(config_of(system).get("headline"))
        for place, architecture in enumerate(names if whole else names[:1]):
            all_seeds = every or (whole and place == 0)
            for seed in range(count if all_seeds else 1):
                _add(found, system, architecture, seed, ())
    order = {name: place for place, name in enumerate(scale.models)}
    return sorted(found.values(), key=lambda row: (order[row.architecture], row.seed))


def needs_of(system: str) -> tuple[str, ...]:
    """The systems that a system's rows need: those it starts from, and the one that its losses are compared with."""
    config = config_of(system)
    compared = () if system == COMPARED or "measure" in config else (COMPARED,)
    return tuple(dict.fromkeys([*(config.get("after") or ()), *compared]))


def _add(found: dict[str, Row], system: str, architecture: str, seed: int, under: tuple[str, ...]) -> None:
    if system in under:
        raise ValueError(f"rows need each other: {' -> '.join([*under, system])}")
    needs = needs_of(system)
    for other in needs:
        _add(found, other, architecture, seed, (*under, system))
    row = Row(system, architecture, seed, needs, int(config_of(system).get("cores", 1)))
    found.setdefault(row.key, row)


def expected_seconds(job: Job) -> float | None:
    """From this row's record, another seed's or architecture's, else a table; None at a scale that it does not speak of."""
    own = job.folder / "row.json"
    for path in (own, *sorted(job.work.glob(f"*/{job.system}-[0-9]*/row.json"))):
        if path.exists():
            record = json.loads(path.read_text())
            return float(record["train_seconds"] + record["measure_seconds"])
    return float(EXPECTED.get(job.system, EXPECTED_OTHERS)) if job.scale.name == EXPECTED_AT else None


def steps_of(job: Job) -> int:
    """Optimizer steps of a row's language model: none where it is not trained, all of a row that is tuned in rounds."""
    config = config_of(job.system)
    if config["train"] in NO_STEPS:
        return 0
    return job.scale.steps * (int(config["options"]["rounds"]) if config["train"] == IN_ROUNDS else 1)


def mean_tokens(job: Job) -> float | None:
    """Tokens of one of a row's training texts, about, from its words; None where these are not written yet."""
    if config_of(job.system)["train"] != "jigsaw:train":
        return TOKENS_A_WORD * mean_words(job.rows)
    from jigsaw_data import FOLDER, LABELS, QUESTION

    comments = job.work / FOLDER / "trained.jsonl"
    added = len((QUESTION + LABELS[0]).split())
    return TOKENS_A_WORD * (mean_words(comments) + added) if comments.exists() else None


@functools.lru_cache(maxsize=8)
def mean_words(rows: Path) -> float:
    """Words of a text in a file of rows."""
    texts = [json.loads(line)["text"] for line in rows.read_text(encoding="utf-8").splitlines()]
    return sum(len(text.split()) for text in texts) / max(1, len(texts))


def bytes_of(job: Job) -> float | None:
    """What weights, gradients, optimizers and frozen copies of a row take; None where the size of its model is not known.

    Activations, the classifier and what a sampler keeps come on top.
    """
    parameters = PARAMETERS.get(job.start)
    if parameters is None:
        return None
    train = config_of(job.system)["train"]
    copies = 0 if job.options.get("method", "constraint") != "constraint" else COPIES.get(train, 0)
    return parameters * HELD.get(train, TRAINED_BYTES + copies * COPY_BYTES)


def plan_lines(
    rows: Iterable[Row], job_of: Callable[[Row], Job], most_calls: Callable[[Job], int], jobs: int,
    later: Collection[str] = (),
) -> list[str]:  # fmt: skip
    """The plan as text: a line per row with its budget, and the time that all take together.

    ``later`` are the protocols that this run does not measure.
    """
    lines = [f"{'row':<36}{'steps':>7}{'tokens':>12}{'oracle calls':>14}{'seconds':>9}  state"]
    left = total = 0.0
    unknown = unmeasured = 0
    for row in rows:
        job = job_of(row)
        tokens_a_row, seconds, steps = mean_tokens(job), expected_seconds(job), steps_of(job)
        tokens = None if tokens_a_row is None else steps * job.scale.batch_size * tokens_a_row
        record = read_record(job)
        finished, due = record is not None, left_to_measure(record or {}, later)
        state = f"to measure: {', '.join(due)}" if due else "finished" if finished else "to do"
        unmeasured += bool(due)
        total += seconds or 0.0
        left += 0.0 if finished or seconds is None else seconds * min(row.cores, jobs)
        unknown += seconds is None and not finished
        after = f" (after {', '.join(row.needs)})" if row.needs else ""
        memory = "" if (held := bytes_of(job)) is None else f", {held / 1e9:.0f} GB and activations"
        lines.append(
            f"{row.key:<36}{steps:>7}{_number(tokens):>12}{most_calls(job):>14,}"
            f"{_number(seconds):>9}  {state}{after}{memory}"
        )
    unknown_rows = f", {unknown} rows of unknown seconds apart" if unknown else ""
    unknown_rows += f", what is to measure of {unmeasured} finished rows apart" if unmeasured else ""
    lines.append(
        f"{len(lines) - 1} rows. Steps and tokens are those of training rows: sampled rows, and the steps of a row that "
        "this one starts from, come on top; oracle calls are the most that are allowed. Left: about "
        f"{left / jobs / 60:.0f} minutes in {jobs} processes (all rows: {total / 60:.0f} minutes of one core), by earlier "
        f"rows where there are some, else a guess{unknown_rows}."
    )
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
