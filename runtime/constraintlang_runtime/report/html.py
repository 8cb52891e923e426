"""The report as one self-contained HTML page: one script, no network, light and dark, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from . import words
from .charts import interval_chart, interval_range
from .data import ClauseResult, ReportData, SampleText, SystemReport, report_data
from .histograms import histogram_chart
from .json_report import write_text_atomic
from .legible import legible_record
from .panels import panel_groups
from .run_panels import run_panels
from .sample_records import ScoreHistogram, ScoreSeries
from .sample_table import script_json, shown_text, table_data
from .table import clause_names
from .task_table import with_error
from .tradeoff_panels import tradeoff_panels

_MAX_SAMPLES = 12
_TOKEN = re.compile(
    r"(?P<comment>#[^\n]*)|(?P<string>\"[^\"\n]*\")"
    r"|(?P<number>\b\d+(?:\.\d+)?%?)"
    r"|(?P<keyword>\b(?:edition|import|as|let|attribute|domain|tag|group|test|require|prefer|preserve|always"
    r"|for|per|under|weight|priority|confidence|because|and|or|not|in|implies|until|release|before|globally"
    r"|eventually|next|weak_next|over|given|pass|fail|base)\b)"
)


@dataclass(frozen=True)
class Pair:
    """The replies of two systems to one prompt."""

    prompt: str
    domain: str
    before: SampleText | None
    after: SampleText | None


def write_html(data: ReportData | Mapping[str, Any], path: str | Path) -> Path:
    """Render ``data`` and write the page atomically; returns the path.

    Raises: DataError for a wrong key or value; OSError when the folder cannot be written.
    """
    return write_text_atomic(render_html(data), path)


def render_html(data: ReportData | Mapping[str, Any]) -> str:
    """The page as text. The same data gives the same bytes: no time, no random name.

    Raises: DataError for a wrong key or value.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    report = legible_record(report_data(data))
    environment = Environment(
        loader=PackageLoader("constraintlang_runtime", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"code": code_spans, "policy": highlight_policy, "plain": _plain}
    system = report.system(report.headline, -1)
    baseline = report.system(report.baseline, 0)
    table = table_data(report.systems)
    # as a parser reads it: the policy of the page names the script by its hash
    script = (files(__package__) / "samples.js").read_text(encoding="utf-8").replace("\r\n", "\n")
    return environment.get_template("template.html.j2").render(
        report=report,
        system=system,
        baseline=baseline,
        overall=words.overall(system.clauses),
        words=words,
        with_error=with_error,
        clause_names=clause_names(report.systems),
        ranges=_ranges(report.systems),
        allowances=_allowances(report.systems),
        interval_chart=interval_chart,
        interval_range=interval_range,
        panel_groups=[*run_panels(report.runs, system.clauses), *panel_groups(report, system.clauses)],
        pairs=_pairs(baseline, system),
        facts=_facts(baseline, system),
        reading=lambda clause: clause_reading(report, clause),
        leading=_leading(system.clauses),
        joint=len(system.clauses) > 1,
        tradeoffs=tradeoff_panels(report, system),
        histograms=_histograms(report, baseline, system),
        table=table,
        table_json=script_json(table),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def code_spans(text: str) -> Markup:
    """Escaped text with `backticks` as code elements."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def highlight_policy(text: str) -> Markup:
    """Escaped policy source with spans for comments, strings, numbers and keywords, one element per line."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        position, parts = 0, []
        for match in _TOKEN.finditer(line):
            parts.append(escape(line[position : match.start()]))
            parts.append(Markup('<span class="{}">{}</span>').format(f"t-{match.lastgroup}", match.group()))
            position = match.end()
        lines.append(
            Markup("<li>{}</li>").format(Markup("").join([*parts, escape(line[position:])]) or "\u200b")
        )
    return Markup("\n").join(lines)


# ------------------------------------------------------------ parts of the page
def _plain(value: Any) -> str:
    """A provenance value as text: strings as they are, a flat mapping as lines, everything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and not any(isinstance(v, Mapping | list | tuple) for v in value.values()):
        return "\n".join(f"{key}: {entry}" for key, entry in value.items())
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _allowances(systems: Sequence[SystemReport]) -> dict[str, str]:
    """What each clause grants, for the column's head; empty where it differs between the systems."""
    found: dict[str, set[str]] = {}
    for clause in (c for s in systems for c in s.clauses):
        soft = "prefer, " if words.is_soft(clause) else ""
        found.setdefault(clause.clause, set()).add(soft + words.allowance(clause))
    return {name: texts.pop() if len(texts) == 1 else "" for name, texts in found.items()}


def _leading(clauses: Sequence[ClauseResult]) -> list[ClauseResult]:
    """Of several clauses, the one behind the overall verdict: the first that has it."""
    worst = words.overall(clauses)
    return [c for c in clauses if c.verdict == worst and not words.is_soft(c)][:1] if len(clauses) > 1 else []


def _ranges(systems: Sequence[SystemReport]) -> dict[str, tuple[float, float]]:
    """One horizontal scale per clause, shared by the systems so that they can be compared by eye."""
    return {
        name: interval_range([c for s in systems for c in s.clauses if c.clause == name])
        for name in clause_names(systems)
    }


def _pairs(baseline: SystemReport, system: SystemReport) -> list[Pair]:
    """Replies to the same prompt side by side, worst first: by the score after, then by the score before."""
    before = _by_prompt(baseline.compared or baseline.samples) if baseline.name != system.name else {}
    after = _by_prompt(system.compared or system.samples)
    pairs = [
        Pair(key[1], key[0], before.get(key), after.get(key)) for key in dict.fromkeys([*after, *before])
    ]

    def badness(pair: Pair) -> tuple[float, ...]:
        return tuple(
            v
            for s in (pair.after, pair.before)
            for v in (float(bool(s and s.violates)), (s.score or 0.0) if s else 0.0)
        )

    return sorted(pairs, key=badness, reverse=True)[:_MAX_SAMPLES]


def _by_prompt(samples: Sequence[SampleText]) -> dict[tuple[str, str], SampleText]:
    """The worst sample of each (domain, prompt)."""
    found: dict[tuple[str, str], SampleText] = {}
    for sample in map(shown_text, samples):
        key = (sample.domain, sample.prompt)
        if key not in found or (sample.score or 0.0) > (found[key].score or 0.0):
            found[key] = sample
    return found


def _histograms(
    report: ReportData, baseline: SystemReport, system: SystemReport
) -> list[tuple[ScoreHistogram, Markup, list[tuple[str, ScoreSeries]]]]:
    """Each histogram with its chart and the series that it shows: the baseline's, then the headline's."""
    shown = list({s.name: s.label for s in (baseline, system)}.items())
    found = []
    for histogram in report.histograms:
        if svg := histogram_chart(histogram, shown):
            by_name = {series.system: series for series in histogram.series}
            found.append(
                (histogram, svg, [(label, by_name[name]) for name, label in shown if name in by_name])
            )
    return found


def _facts(baseline: SystemReport, system: SystemReport) -> list[dict[str, str]]:
    """Up to four headline figures: label, value, and what it was before."""
    facts = []
    same = baseline.name == system.name
    was = {clause.clause: clause for clause in baseline.clauses}
    for clause in [c for c in system.clauses if c.kind in ("violation", "probability")][:1]:
        old = was.get(clause.clause)
        label = "Violation rate" if clause.kind == "violation" else "Probability"
        detail = (
            f"was {words.amount(old, old.estimate)}, {baseline.label.lower()}" if old and not same else ""
        )
        facts.append({"label": label, "value": words.amount(clause, clause.estimate), "detail": detail})
    for label, now, then in (
        ("Utility loss", system.utility_loss, baseline.utility_loss),
        ("Loss on compliant text", system.compliant_loss, baseline.compliant_loss),
    ):
        if now is not None:
            detail = f"was {words.loss(then)}" if then is not None and not same else "nats per token"
            facts.append({"label": label, "value": words.loss(now), "detail": detail})
    prompts: dict[str | None, int] = {}  # clauses of one domain judge the same prompts
    for clause in system.clauses:
        if clause.kind != "utility":
            prompts[clause.domain] = max(prompts.get(clause.domain, 0), clause.n)
    if prompts:
        value = f"{system.num_prompts or sum(prompts.values()):,}"
        facts.append({"label": "Evidence", "value": value, "detail": "held-out prompts judged"})
    return facts[:4]


def clause_reading(report: ReportData, clause: ClauseResult) -> str:
    """The sentence given for this clause, else the one made from its verdict."""
    return report.readings.get(clause.clause) or words.reading(clause)
