"""From what the commands wrote (``verdict.json``, ``samples.jsonl``, ``run.json``) to one ``ReportData``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constraintlang_runtime.errors import DataError
from constraintlang_runtime.report.data import ReportData, plain, report_data
from constraintlang_runtime.report.doubts import doubts_of
from constraintlang_runtime.report.histograms import score_histograms
from constraintlang_runtime.report.history import read_history
from constraintlang_runtime.report.provenance import evaluation_provenance, run_fingerprint, run_provenance
from constraintlang_runtime.report.sample_file import SampleFile, chosen_rows, read_sample_file, replies_to
from constraintlang_runtime.report.sample_records import ScoreHistogram
from constraintlang_runtime.report.thresholds import Threshold

COMPARED = (
    "prompts",
    "completions",
    "num_prompts",
    "samples",
    "max_prompts",
    "scorer",
    "judge",
    "chat",
    "seed",
)
OF_A_RUN = ("history", "semantic_hash", "model", "steps", "rows", "seconds", "settings", "versions")


def assemble(
    *,
    title: str,
    policy_text: str,
    policy_hash: str | None = None,
    systems: Sequence[tuple[str, str, Path]],
    run: Path | None = None,
    other_runs: Sequence[tuple[str, Path]] = (),
    compared_runs: Sequence[tuple[str, Path]] = (),
    thresholds: Sequence[Threshold] = (),
    utility: str | None = None,
    compliant: str = "compliant",
    notes: Sequence[str] = (),
) -> ReportData:
    """A report over evaluations.

    ``systems`` are (name, label, folder of ``constraintc eval``); the last is the headline, the first the baseline.
    ``run`` is the output folder of ``constraintc train`` whose curves are shown; of ``other_runs`` (label, folder) the
    checkpoints are; of ``compared_runs``, where there are several, the curves on the same axes. ``thresholds`` are
    those of the policy, for histograms of scores. ``utility`` and ``compliant`` name the ``--rows`` sets whose losses
    fill those columns; without a name the utility is the set `utility`, or the only one that was measured.
    Raises: DataError for a folder without its files, or one that was judged under another policy than ``policy_hash``.
    """
    reports, said = [], list(notes)
    provenance: dict[str, Any] = {}
    files, losses = [], []
    verdicts = [read_verdict(folder) for _, _, folder in systems]
    for (_, _, folder), verdict in zip(systems, verdicts, strict=True):
        if policy_hash is not None and verdict.get("policy") not in (None, policy_hash):
            raise DataError(
                f"`{folder}` was judged under another policy ({verdict['policy']}) than this one ({policy_hash})",
                help="judge it under this policy with `constraintc eval`, or report on each policy by itself",
            )
        _require_same_run(folder, verdict)
    utility = utility or _only_measured(verdicts, besides=compliant)
    if utility != "utility" and any(utility in verdict["losses"] for verdict in verdicts):
        said.append(f"The utility loss is the loss on the rows `{utility}`.")
    for (name, label, folder), verdict in zip(systems, verdicts, strict=True):
        files.append(read_sample_file(folder / "samples.jsonl", _kinds(verdict), thresholds))
        reports.append(
            {
                "name": name,
                "label": label,
                "clauses": verdict["clauses"],
                "utility_loss": verdict["losses"].get(utility),
                "compliant_loss": verdict["losses"].get(compliant),
                "seconds": _training_seconds(verdict),
                "degeneracy": verdict["degeneracy"],
                "doubts": doubts_of(verdict),
                "tasks": verdict.get("tasks", []),
                "num_prompts": verdict.get("num_prompts"),
                "num_samples": files[-1].num_rows,
                "num_violations": files[-1].num_violations,
            }
        )
        losses.append((label, verdict["losses"]))
        provenance[f"evaluation of {label}"] = evaluation_provenance(verdict)
        if verdict.get("prompts_seen_in_training"):
            said.append(
                f"{label}: {verdict['prompts_seen_in_training']:,} of {verdict['num_prompts']:,} prompts were seen in "
                "training, so its verdicts say less about new prompts."
            )
    _add_samples(reports, systems, files, thresholds)
    kinds = {clause["clause"]: clause["kind"] for report in reports for clause in report["clauses"]}
    series: dict[str, Any] = {}
    candidates: list[dict[str, Any]] = []
    if run is not None:
        record = read_run(run)
        series = read_history(record["history"], kinds)
        candidates = [_candidate(found) for found in record.get("selection", ())]
        said += [_budget_note(found) for found in record.get("preserve", ())]
        provenance = {**run_provenance(record), **provenance}
    for label, folder in other_runs:
        found = read_run(folder).get("selection", ())
        candidates += [_candidate(one) | {"run": label} for one in found]
    return report_data(
        {
            "title": title,
            "policy_text": policy_text,
            "systems": reports,
            "candidates": candidates,
            "histograms": [plain(h) for h in _histograms(systems, files, thresholds)],
            **series,
            "provenance": provenance,
            "notes": said,
            "unequal": unequal(verdicts),
            "runs": [_run_curves(label, folder, kinds) for label, folder in compared_runs],
            "unmeasured": [
                *_unmeasured("utility", utility, losses),
                *_unmeasured("compliant", compliant, losses),
            ],
        }
    )


def _require_same_run(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Raise DataError where the judged model was trained anew since."""
    model = str((verdict.get("settings") or {}).get("model") or "")
    judged, now = verdict.get("run"), run_fingerprint(model) if model else None
    if judged is not None and now is not None and judged != now:
        raise DataError(
            f"`{folder}` judged `{model}` before it was trained again",
            help="judge the model that is there now: constraintc eval ... --overwrite",
        )


def unequal(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """In what else than the model the evaluations differ, by the names of the flags and of the sampling law."""
    found = []
    for name in COMPARED:
        said = [json.dumps((one.get("settings") or {}).get(name), sort_keys=True) for one in verdicts]
        if len(set(said)) > 1:
            found.append(name)
    laws = [one.get("sampling") or {} for one in verdicts]
    names = dict.fromkeys(name for law in laws for name in law if name not in COMPARED)
    return found + [name for name in names if len({json.dumps(law.get(name)) for law in laws}) > 1]


def _run_curves(label: str, folder: Path, kinds: Mapping[str, str]) -> dict[str, Any]:
    found = read_history(read_run(folder)["history"], kinds)
    return {"label": label, "curves": found["curves"], "bounds": found["bounds"]}


def _only_measured(verdicts: Sequence[Mapping[str, Any]], *, besides: str) -> str:
    """The one set of rows whose loss was measured, else the set that is looked for by default."""
    measured = {name for verdict in verdicts for name in verdict["losses"]} - {besides}
    return measured.pop() if len(measured) == 1 else "utility"


def _unmeasured(column: str, name: str, losses: Sequence[tuple[str, Mapping[str, float]]]) -> list[str]:
    """How to measure a loss that some systems lack; of the optional one only where others have it."""
    lacking = [label for label, own in losses if own.get(name) is None]
    if not lacking or (column == "compliant" and len(lacking) == len(losses)):
        return []
    others = list(dict.fromkeys(other for _, own in losses for other in own))
    named = (
        f", or name a set that was measured ({', '.join(others)}) with `--{column} NAME`" if others else ""
    )
    return [
        f"{column.capitalize()} loss is not measured for {', '.join(lacking)}: run `constraintc eval --model ...` with "
        f"`--rows {name}=FILE`, held-out rows{named}."
    ]


def _candidate(found: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("clause", "estimate", "limit", "met", "bound", "samples", "prompts")
    clauses = [{key: clause[key] for key in keys if key in clause} for clause in found["clauses"]]
    return {key: found[key] for key in ("step", "chosen", "utility_loss")} | {"clauses": clauses}


def _kinds(verdict: Mapping[str, Any]) -> dict[str, str]:
    return {clause["clause"]: clause["kind"] for clause in verdict["clauses"]}


def _add_samples(
    reports: list[dict[str, Any]],
    systems: Sequence[tuple[str, str, Path]],
    files: Sequence[SampleFile],
    thresholds: Sequence[Threshold],
) -> None:
    """The rows that the page lists, and what the first and the last system reply to their worst prompts."""
    for report, rows in zip(reports, chosen_rows(files), strict=True):
        report["samples"] = rows
    ends = dict.fromkeys((0, len(systems) - 1))
    prompts = {key for place in ends for key in files[place].worst_prompts()}
    for place in ends:
        path = systems[place][2] / "samples.jsonl"
        kinds = {clause["clause"]: clause["kind"] for clause in reports[place]["clauses"]}
        reports[place]["compared"] = replies_to(path, prompts, kinds, thresholds)


def _histograms(
    systems: Sequence[tuple[str, str, Path]], files: Sequence[SampleFile], thresholds: Sequence[Threshold]
) -> list[ScoreHistogram]:
    named = [(name, file) for (name, _, _), file in zip(systems, files, strict=True)]
    return score_histograms(named, thresholds)


def _budget_note(found: Mapping[str, Any]) -> str:
    """One sentence on a `preserve` clause in training."""
    steps = found["steps_hit"]
    hit = (
        f"was hit at step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}" if steps else "was never hit"
    )
    return (
        f"The budget of `{found['clause']}`, measured on {found['rows']:,} held-out rows, {hit}; at the end its "
        f"{found['quantity']} was {found['value']:.4g}, the bound {found['bound']:.4g}."
    )


def _training_seconds(verdict: Mapping[str, Any]) -> float | None:
    """How long the judged model was trained, when it is the output of `constraintc train`."""
    record = Path(str(verdict.get("settings", {}).get("model", ""))) / "constraint" / "run.json"
    return float(read_json(record)["seconds"]) if record.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; DataError when it cannot be had."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"no `{path}`", help="it is written by `constraintc eval --output` or `constraintc train`"
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"`{path}` is not JSON: {error}", help="run the command that writes it again"
        ) from error
    return dict(content)


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a folder of ``constraintc train``; DataError when it is none."""
    return _with_keys(folder / "constraint" / "run.json", OF_A_RUN, "record", "train")


def read_verdict(folder: Path) -> dict[str, Any]:
    """``verdict.json`` of a folder of ``constraintc eval``; DataError when it is none."""
    return _with_keys(folder / "verdict.json", ("clauses", "losses", "degeneracy"), "verdict", "eval")


def _with_keys(path: Path, keys: Sequence[str], what: str, verb: str) -> dict[str, Any]:
    found = read_json(path)
    missing = [key for key in keys if key not in found]
    if missing:
        raise DataError(
            f"`{path}` has no {', '.join(f'`{key}`' for key in missing)}, so it is no {what} of `constraintc {verb}`",
            help=f"name a folder that `constraintc {verb} --output` wrote",
        )
    return found
