"""From what the commands wrote (``verdict.json``, ``samples.jsonl``, ``run.json``) to one ``ReportData``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constraintlang_runtime.errors import DataError
from constraintlang_runtime.report.data import ReportData, report_data
from constraintlang_runtime.report.doubts import doubts_of
from constraintlang_runtime.report.history import read_history

SHOWN_SAMPLES = 400


def assemble(
    *,
    title: str,
    policy_text: str,
    systems: Sequence[tuple[str, str, Path]],
    run: Path | None = None,
    utility: str = "utility",
    compliant: str = "compliant",
    notes: Sequence[str] = (),
) -> ReportData:
    """A report over evaluations.

    ``systems`` are (name, label, folder of ``constraintc eval``); the last is the headline, the first the baseline.
    ``run`` is the output folder of ``constraintc train`` whose curves are shown. ``utility`` and ``compliant`` name
    the ``--rows`` sets whose losses fill those columns.
    Raises: DataError for a folder without its files.
    """
    reports, said = [], list(notes)
    for name, label, folder in systems:
        verdict = _verdict(folder / "verdict.json")
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
                "samples": _samples(folder / "samples.jsonl"),
                "tasks": verdict.get("tasks", []),
            }
        )
        if verdict.get("prompts_seen_in_training"):
            said.append(
                f"{label}: {verdict['prompts_seen_in_training']:,} of {verdict['num_prompts']:,} prompts were seen in "
                "training, so its verdicts say less about new prompts."
            )
    provenance: dict[str, Any] = {}
    series: dict[str, Any] = {}
    candidates: list[dict[str, Any]] = []
    if run is not None:
        record = read_json(run / "constraint" / "run.json")
        kinds = {clause["clause"]: clause["kind"] for report in reports for clause in report["clauses"]}
        series = read_history(record["history"], kinds)
        candidates = [_candidate(found) for found in record.get("selection", ())]
        said += [_budget_note(found) for found in record.get("preserve", ())]
        provenance = {
            "policy": record["semantic_hash"],
            "start model": record["model"],
            "steps": record["steps"],
            "training rows": record["rows"],
            "training seconds": record["seconds"],
            "settings": record["settings"],
            "versions": record["versions"],
        }
    return report_data(
        {
            "title": title,
            "policy_text": policy_text,
            "systems": reports,
            "candidates": candidates,
            **series,
            "provenance": provenance,
            "notes": said,
        }
    )


def _candidate(found: Mapping[str, Any]) -> dict[str, Any]:
    clauses = [
        {key: clause[key] for key in ("clause", "estimate", "limit", "met")} for clause in found["clauses"]
    ]
    return {key: found[key] for key in ("step", "chosen", "utility_loss")} | {"clauses": clauses}


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


def _verdict(path: Path) -> dict[str, Any]:
    found = read_json(path)
    missing = [key for key in ("clauses", "losses", "degeneracy") if key not in found]
    if missing:
        raise DataError(
            f"`{path}` has no {', '.join(f'`{key}`' for key in missing)}, so it is no verdict of `constraintc eval`",
            help="name a folder that `constraintc eval --output` wrote",
        )
    return found


def _samples(path: Path) -> list[dict[str, Any]]:
    """The first samples of an evaluation, one per line of the file, as the report shows them."""
    again = "run `constraintc eval` again, which writes it whole"
    shown = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read `{path}`: {error}", help=again) from error
    for number, line in enumerate(text.rstrip("\n").split("\n"), start=1):
        if number > SHOWN_SAMPLES:
            break
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number} of `{path}` is not JSON: {error}", help=again) from error
        try:
            score = next(iter(record["scores"].values()), None)
            violates = None if record["statistic"] is None else record["statistic"] > 0
            shown.append(
                {
                    "prompt": record["prompt"],
                    "completion": record["completion"],
                    "domain": record["domain"] or "",
                    "score": score,
                    "violates": violates,
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"line {number} of `{path}` is no sample of `constraintc eval`", help=again
            ) from error
    return shown
