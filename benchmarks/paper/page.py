"""The page of a result file: one self-contained HTML with every row, its intervals as bars, settings, versions, command."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scatter import scatter

TITLES = {
    "toxigen": "Toxicity, utility and cost of every system",
    "winrate": "Pairwise judge",
    "jigsaw": "Jigsaw: generation and classification",
    "ablations": "Ablations",
}

NOTES = {
    "jigsaw": "Trained on are comments, the question whether they follow the rules, and its answer as a word: the whole of it "
    "(lm) or the answer and the end alone (classification). ROC-AUC is that of log P(no) - log P(yes) on held-out comments. "
    "Toxicity is asked after the first words of held-out comments, because that is where training on toxic comments shows, and "
    "there the policy holds in training, too, on beginnings of the training comments: how a comment goes on, and what is said "
    "of a whole one, are different parts of one law. ToxiGen prompts, of which the policy does not speak, have a column.",
}


@dataclass(frozen=True)
class Column:
    """A figure of the rows: where it stands, and how it is written. ``better`` is lower, higher or nothing."""

    title: str
    path: tuple[str, ...]
    form: str = ".3f"
    better: str = "lower"


FIGURES = (
    Column("toxic, T=0.1", ("toxicity",)),
    Column("toxic after ToxiGen prompts, T=1", ("toxigen_t1", "toxic")),
    Column("toxic by audit, T=1", ("audit", "toxigen_t1", "toxic")),
    Column("RTP expected maximum", ("rtp", "expected_maximum")),
    Column("RTP any of 25", ("rtp", "any_toxic")),
    Column("RTP worst tenth", ("rtp", "worst_decile")),
    Column("neutral loss", ("neutral_loss",)),
    Column("compliant loss", ("compliant_loss",)),
    Column("LAMBADA loss", ("lambada_loss",)),
    Column("toxic after comments, T=1", ("comments_t1", "toxic")),
    Column("ROC-AUC of classification", ("roc",), better="higher"),
    Column("win rate against all, likelihood judge", ("win_rate",), better="higher"),
    Column(
        "win rate where both replies have a word, likelihood judge", ("win_rate_spoken",), better="higher"
    ),
    Column("win rate against all, LLM judge", ("win_rate_llm",), better="higher"),
)
PLAIN = (
    Column("distinct-2, T=1", ("toxigen_t1", "distinct_2"), ".3f", "higher"),
    Column("empty, T=1", ("toxigen_t1", "empty"), ".3f", ""),
    Column("words, T=1", ("toxigen_t1", "mean_words"), ".1f", ""),
    Column("steps", ("steps",), ",.0f", ""),
    Column("tokens", ("tokens",), ",.0f", ""),
    Column("oracle calls", ("oracle_calls",), ",.0f", ""),
    Column("seconds", ("seconds",), ",.0f", ""),
    Column("device seconds", ("device_seconds",), ",.0f", ""),
)
PLOTTED = (("compliant_loss", "loss on compliant text"), ("neutral_loss", "loss on neutral text"))
STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6570;--line:#d8dde3;--paper:#fff;--band:#f5f7f9;--bar:#2f6fbf;--ours:#c2571a}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa5b1;--line:#343b43;--paper:#14181c;--band:#1b2026;--bar:#6ea8ec;--ours:#f0945a}}
body{margin:2rem auto;padding:0 1.25rem;max-width:118rem;font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{max-width:56rem}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;vertical-align:middle}
th{position:sticky;top:0;background:var(--band);font-weight:600;color:var(--soft);white-space:normal;min-width:4.5rem}
th:first-child,td:first-child{position:sticky;left:0;background:var(--paper);text-align:left;font-weight:600}
th:first-child{background:var(--band)}tr.ours td:first-child{color:var(--ours)}
td small{display:block;color:var(--soft)}svg{display:block;margin-left:auto}
.charts{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:1rem 0;max-width:100%}figure svg{max-width:100%;height:auto;margin:0}
.best{font-weight:700;text-decoration:underline}
code,pre{font:12.5px/1.45 ui-monospace,monospace;background:var(--band);border-radius:4px}code{padding:.1rem .3rem}
pre{padding:.75rem;overflow-x:auto}dt{font-weight:600;margin-top:.5rem}dd{margin:0 0 0 1rem}
"""
WIDTH, HEIGHT = 92, 12


def write_page(path: Path, table: str, result: Mapping[str, Any]) -> Path:
    """Write the page of a result; returns its path."""
    path.write_text(page(table, result), encoding="utf-8")
    return path


def page(table: str, result: Mapping[str, Any]) -> str:
    """The page as text; it loads nothing."""
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    parts = [
        f"<h1>{_e(TITLES.get(table, table))}</h1>",
        f"<p>Scale <code>{_e(result['scale']['name'])}</code>. Every row saw the same training rows, steps and batch, and at "
        f"most {result['scale']['oracle_calls']:,} scored texts; a row that starts from the finished plain model counts "
        "its own steps and seconds on top. Bars are 95% intervals, over prompts and over seeds; each column has one "
        "scale, and the best mean of an architecture is underlined. Losses are nats per token, LAMBADA nats per word.</p>",
    ]
    if table in NOTES:
        parts.append(f"<p>{_e(NOTES[table])}</p>")
    for failure in result.get("failed", ()):
        parts.append(f"<p><strong>Not in the table:</strong> {_e(failure['row'])}: {_e(failure['why'])}</p>")
    for architecture in dict.fromkeys(row["architecture"] for row in rows):
        own = [row for row in rows if row["architecture"] == architecture]
        charts = "".join(scatter(own, key, title) for key, title in PLOTTED)
        parts += [f"<h2>{_e(architecture)}</h2>", _table(own), f"<div class='charts'>{charts}</div>"]
    for architecture, judges in result.get("judges", {}).items():
        for name, judged in judges.items():
            parts += [
                f"<h2>{_e(architecture)}: {_e(name)} judge</h2>",
                f"<p>{_e(judged['what'])}</p>",
                _matrix(judged),
            ]
            if "spoken" in judged:
                spoken = _matrix({**judged, **judged["spoken"]})
                parts.append(f"<p>The same over the prompts where both replies have a word.</p>{spoken}")
    parts += ["<h2>Rows</h2><dl>"]
    for name, says in dict.fromkeys((row["system"], row["says"]) for row in rows):
        parts.append(f"<dt>{_e(name)}</dt><dd>{_e(says)}</dd>")
    parts += ["</dl>", "<h2>How it was made</h2>", f"<pre>{_e(result['command'])}</pre>"]
    for command, names in earlier_runs(result["rows"]).items():
        parts += [f"<p>By an earlier run: {_e(', '.join(names))}</p>", f"<pre>{_e(command)}</pre>"]
    for key in ("commit", "device", "versions", "scale", "start_models", "files", "samples"):
        if result.get(key):
            parts.append(
                f"<h3>{_e(key.replace('_', ' '))}</h3><pre>{_e(json.dumps(result[key], indent=1))}</pre>"
            )
    title = _e(f"{TITLES.get(table, table)} ({result['scale']['name']})")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One architecture's rows; columns that no row has are left out."""
    figures = [column for column in FIGURES if any(_at(row, column.path) for row in rows)]
    plain = [column for column in PLAIN if any(_at(row, column.path) is not None for row in rows)]
    choices = sorted({task for row in rows for task in _tasks(row)})
    head = [
        "system",
        "seeds",
        *(column.title for column in figures),
        *choices,
        *(column.title for column in plain),
    ]
    lines = ["<tr>" + "".join(f"<th>{_e(title)}</th>" for title in head) + "</tr>"]
    shown = [*figures, *(Column(task, ("choices", task), better="higher") for task in choices)]
    spans = {column.path: _span([_at(row, column.path) for row in rows]) for column in shown}
    best = {column.path: _best([_at(row, column.path) for row in rows], column.better) for column in shown}
    for row in rows:
        cells = [f"<td title='{_e(row['says'])}'>{_e(row['system'])}</td><td>{len(row['seeds'])}</td>"]
        for column in shown:
            figure = _at(row, column.path)
            cells.append(_cell(figure, column, spans[column.path], best[column.path]))
        for column in plain:
            value = _at(row, column.path)
            value = value["mean"] if isinstance(value, Mapping) else value
            cells.append(f"<td>{'' if value is None else format(value, column.form)}</td>")
        kind = "ours" if row["system"].startswith("ours") else "other"
        lines.append(f"<tr class='{kind}'>{''.join(cells)}</tr>")
    note = "".join(
        f" {_e(task)} {chance:.3f}" for task in choices if (chance := _chance(rows, task)) is not None
    )
    chance_line = f"<p>Chance on the questions:{note}; small models sit on it.</p>" if note else ""
    return f"<div class='scroll'><table>{''.join(lines)}</table></div>{chance_line}"


def _matrix(judged: Mapping[str, Any]) -> str:
    """Win rates of rows against columns; nothing for a judge that was not asked."""
    if not judged["measured"]:
        return ""
    names = list(judged["matrix"])
    lines = ["<tr><th>against</th>" + "".join(f"<th>{_e(name)}</th>" for name in names) + "</tr>"]
    for name in names:
        cells = [f"<td>{_e(name)}</td>"]
        for other in names:
            figure = judged["matrix"][name].get(other)
            cells.append(_cell(figure, Column("", (), better=""), (0.0, 1.0), None))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class='scroll'><table>{''.join(lines)}</table></div>"


def _cell(figure: Any, column: Column, span: tuple[float, float], best: float | None) -> str:
    if not isinstance(figure, Mapping) or figure.get("mean") is None:
        return "<td></td>"
    mean, low, high = figure["mean"], figure.get("low"), figure.get("high")
    mark = " class='best'" if best is not None and mean == best else ""
    text = f"<span{mark}>{format(mean, column.form)}</span>"
    if low is None or high is None:
        return f"<td>{text}</td>"
    return f"<td>{text}<small>{format(low, column.form)} to {format(high, column.form)}</small>{bar(mean, low, high, span)}</td>"


def bar(mean: float, low: float, high: float, span: tuple[float, float]) -> str:
    """An interval as a line with a dot, on the column's scale."""
    least, most = span
    room = (most - least) or 1.0

    def place(value: float) -> float:
        return round(4 + (WIDTH - 8) * min(1.0, max(0.0, (value - least) / room)), 1)

    middle = HEIGHT / 2
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='interval'>"
        f"<line x1='4' x2='{WIDTH - 4}' y1='{middle}' y2='{middle}' stroke='var(--line)'/>"
        f"<line x1='{place(low)}' x2='{place(high)}' y1='{middle}' y2='{middle}' stroke='var(--bar)' stroke-width='3'/>"
        f"<circle cx='{place(mean)}' cy='{middle}' r='3.5' fill='var(--bar)'/></svg>"
    )


def _at(row: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = row
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            return None
        found = found[key]
    return found


def _span(figures: Sequence[Any]) -> tuple[float, float]:
    """The ends of a column's scale: all intervals fit."""
    ends = [
        value
        for figure in figures
        if isinstance(figure, Mapping)
        for value in (figure.get("low"), figure.get("mean"), figure.get("high"))
        if value is not None
    ]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def _best(figures: Sequence[Any], better: str) -> float | None:
    means = [
        figure["mean"] for figure in figures if isinstance(figure, Mapping) and figure.get("mean") is not None
    ]
    if not means or not better or len(means) < 2:
        return None
    return min(means) if better == "lower" else max(means)


def _tasks(row: Mapping[str, Any]) -> list[str]:
    found = row.get("choices") or {}
    return [
        task
        for task, figure in found.items()
        if isinstance(figure, Mapping) and "mean" in figure and task != "seconds"
    ]


def _chance(rows: Sequence[Mapping[str, Any]], task: str) -> float | None:
    for row in rows:
        chance = _at(row, ("choices", task, "chance"))
        if chance is not None:
            return float(chance["mean"] if isinstance(chance, Mapping) else chance)
    return None


def _e(text: object) -> str:
    return html.escape(str(text), quote=True)


def earlier_runs(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The rows that an earlier run made, by its command."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if "made" in row:
            found.setdefault(row["made"]["command"], []).append(f"{row['system']} ({row['architecture']})")
    return found
