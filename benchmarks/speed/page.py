"""The results as one self-contained page: tables with command, versions and device, and the cost against sizes."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from constraintlang_runtime.report.charts import Line, line_chart
from constraintlang_runtime.report.data import CurvePoint

STYLE = """
:root { --ink: #1c1f23; --muted: #667; --line: #dde1e6; --surface: #fff; --sans: system-ui, sans-serif;
  --s1: #2864c7; --s2: #c2410c; --s3: #15803d; --s4: #7e22ce; --s5: #0e7490; --s6: #a16207; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --muted: #9aa3ad; --line: #363c44; --surface: #16191d;
  --s1: #7aa7f7; --s2: #f2965a; --s3: #63c384; --s4: #c08bf0; --s5: #5ec3d8; --s6: #d8b254; } }
body { font: 15px/1.5 var(--sans); color: var(--ink); background: var(--surface); max-width: 1080px; margin: 28px auto; padding: 0 18px; }
h1 { font-size: 24px; margin: 0 0 6px; } h2 { font-size: 18px; margin: 34px 0 4px; } p { margin: 4px 0 10px; max-width: 92ch; } .muted { color: var(--muted); }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { text-align: right; padding: 4px 9px; border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: var(--muted); } td.none { text-align: left; color: var(--muted); }
.heads { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 16px 0; }
.heads div { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; } .heads b { display: block; font-size: 24px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr)); gap: 18px; } figure { margin: 8px 0; } figcaption { font-weight: 600; font-size: 14px; }
.chart { display: block; width: 100%; height: auto; overflow: visible; } .chart text { font: 11.5px var(--sans); fill: var(--muted); }
.chart .grid { stroke: var(--line); } .chart .line { fill: none; stroke-width: 2.2; } .chart .band { opacity: .17; } .chart .dot { stroke: var(--surface); }
i.key { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin: 0 5px 0 12px; vertical-align: -1px; }
""" + "".join(
    f".line.c{c} {{ stroke: var(--s{c}); }} .dot.c{c}, .band.c{c} {{ fill: var(--s{c}); }} i.c{c} {{ background: var(--s{c}); }}\n"
    for c in range(1, 7)
)
TABLES: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    ("step", "A step, full fine-tuning",
     "Loss, gradients, clipping and update on the same rows, in turns. The floor is the matrix products on real tokens (no padding) "
     "at the machine's own measured peak and the update at its copy speed; `floor ratio` is what the option costs at least.",
     (("ratio", "ratio to plain"), ("spread", "quartiles"), ("seconds", "s"), ("tokens_per_second", "tokens/s"), ("floor_gflop", "GFLOP"),
      ("floor_gib", "GiB"), ("floor_ratio", "floor ratio"), ("measured_over_floor", "measured / floor"))),
    ("lora", "A step, LoRA of rank 16", "The same with an adapter; the base is frozen.",
     (("ratio", "ratio to plain"), ("spread", "quartiles"), ("seconds", "s"), ("tokens_per_second", "tokens/s"), ("floor_ratio", "floor ratio"),
      ("measured_over_floor", "measured / floor"))),
    ("memory", "Peak memory of a step", "Each system in a process of its own; `growth` is over a process with the libraries alone.",
     (("lora", "LoRA rank"), ("peak_mib", "peak MiB"), ("memory_ratio", "ratio"), ("growth_mib", "growth MiB"), ("growth_ratio", "ratio of growth"))),
    ("parts", "Parts of a round", "", (("seconds_per_unit", "s each"), ("unit", "unit"), ("seconds", "s"), ("count", "number"))),
    ("vocabulary", "The loss over the vocabulary", "Forward and backward with the output embeddings' gradient, against the floor of its matrix products.",
     (("vocab", "V"), ("sites", "sites"), ("seconds", "s"), ("ratio", "ratio to torch's"), ("measured_over_floor", "measured / floor"))),
    ("run", "Whole runs", "Sampling, scoring, fits and rounds included; seconds of training by the public command, plain fine-tuning by transformers' trainer.",
     (("ratio", "ratio to plain"), ("seconds", "s"), ("steps", "steps"), ("tokens", "tokens"), ("scale", "scale"), ("epochs", "epochs"), ("stages", "s in rounds"),
      ("setting_hash", "setting"))),
    ("decode", "Decoding", "All completions of one length.", (("ratio", "ratio to plain"), ("spread", "quartiles"), ("seconds", "s"), ("tokens_per_second", "tokens/s"))),
    ("masks", "Token masks", "Three clauses about wording.", (("us", "us a step"), ("us_q3", "third quartile"), ("vocab", "V"), ("seconds", "s to build"))),
    ("checkers", "Checkers", "Fifty clauses against a hand-written loop over the same libraries.",
     (("speed_of_hand_written", "speed, hand-written = 1"), ("texts_per_second", "texts/s"))),
    ("gpu", "GPU workload", "", ()),
)  # fmt: skip


def write_page(record: dict[str, Any], path: Path) -> None:
    """Write the page of a stored result."""
    rows = record["rows"]
    machine = record["machine"]
    load, threads = record["load_average"][0], record["threads"]
    loose = " (more than the threads: other work ran beside, and the last ratios are loose)"
    body = [
        f"<h1>What the regularizer costs: {html.escape(record['device_kind'])}</h1>",
        f"<p class=muted>Last written by <code>{html.escape(record['command'])}</code> on {html.escape(str(machine['processor']))}, "
        f"{machine['cores']} cores, {threads} threads; load of the machine at the end {load}{loose if load > threads + 0.5 else ''}. "
        f"Settings {html.escape(', '.join(f'{k} {v}' for k, v in record['setting_hashes'].items()))}; seed {record['seeds'][0]}; "
        f"{html.escape(', '.join(f'{k} {v}' for k, v in record['versions'].items()))}.</p>",
        "<div class=heads>"
        + "".join(
            f"<div>{html.escape(name)}<b>{'not measured' if value is None else f'{value:.2f}'}</b></div>"
            for name, value in record["headline_ratios"].items()
        )
        + "</div><p class=muted>Ratios of the default setting to plain fine-tuning; of guided decoding to plain generate.</p>",
    ]
    for part, title, told, columns in TABLES:
        own = [row for row in rows if row["part"] == part]
        if own:
            command = html.escape(record["commands"][part])
            body.append(
                f"<h2>{title}</h2><p class=muted>{html.escape(told)}<br><code>{command}</code></p>{_table(own, columns)}"
            )
    body.append("<h2>Cost against size</h2><div class=charts>" + "".join(_charts(rows)) + "</div>")
    path.write_text(
        f'<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width"><title>Speed</title>'
        f"<style>{STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _table(rows: list[dict[str, Any]], columns: tuple[tuple[str, str], ...]) -> str:
    head = "<tr><th>system</th>" + "".join(f"<th>{html.escape(title)}</th>" for _, title in columns) + "</tr>"
    lines = []
    for row in rows:
        name = html.escape(str(row["system"]))
        if "not_measured" in row:
            reason = html.escape(f"not measured: {row['not_measured']}")
            lines.append(
                f"<tr><td>{name}</td><td class=none colspan={max(1, len(columns))}>{reason}</td></tr>"
            )
            continue
        lines.append(
            f"<tr><td>{name}</td>" + "".join(f"<td>{_cell(row, key)}</td>" for key, _ in columns) + "</tr>"
        )
    return f"<div class=wide><table>{head}{''.join(lines)}</table></div>"


def _cell(row: dict[str, Any], key: str) -> str:
    if key == "spread":
        return f"{row['ratio_q1']:.2f} to {row['ratio_q3']:.2f}" if "ratio_q1" in row else ""
    if key == "stages":
        return html.escape(", ".join(f"{name} {value:.0f}" for name, value in row["stage_seconds"].items()))
    if key == "lora":
        return str(row["workload"]["lora_r"] or "full")
    value = row.get(key)
    if value is None or isinstance(value, list):
        return ""
    if isinstance(value, float):
        return (
            f"{value:.3f}"
            if 0.01 <= abs(value) < 1000
            else f"{value:.3g}"
            if abs(value) < 1
            else f"{value:,.0f}"
        )
    return html.escape(f"{value:,}" if isinstance(value, int) else str(value))


def _charts(rows: list[dict[str, Any]]) -> list[str]:
    length = [
        row | {"x": row["workload"]["length"]} for row in rows if row["part"] == "length" and "ratio" in row
    ]
    vocabulary = [
        row | {"x": row["vocab"] / 1000, "us": 1e6 * row["seconds"] / row["sites"]}
        for row in rows
        if row["part"] == "vocabulary" and "seconds" in row
    ]
    clauses = [
        row | {"x": row["clauses"], "system": "checkers", "us": 1e6 / row["texts_per_second"]}
        for row in rows if row["part"] == "checkers by clauses"
    ]  # fmt: skip
    return [
        _chart(
            "Step against plain by length of the rows",
            length,
            "ratio",
            "tokens of a row",
            lambda v: f"{v:.2f}",
        ),
        _chart(
            "Vocabulary loss, us a site, by vocabulary",
            vocabulary,
            "us",
            "V, thousands",
            lambda v: f"{v:,.0f}",
        ),
        _chart("Checkers, us a text, by number of clauses", clauses, "us", "clauses", lambda v: f"{v:.1f}"),
    ]


def _chart(title: str, rows: list[dict[str, Any]], key: str, axis: str, describe: Any) -> str:
    names = list(dict.fromkeys(row["system"] for row in rows))
    lines = [
        Line(
            name,
            tuple(
                CurvePoint(
                    step=row["x"], value=row[key], lower=row.get(f"{key}_q1"), upper=row.get(f"{key}_q3")
                )
                for row in rows
                if row["system"] == name
            ),
            1 + number % 6,
        )
        for number, name in enumerate(names)
    ]
    if not lines:
        return ""
    keys = "".join(f"<i class='key c{line.colour}'></i>{html.escape(line.name)}" for line in lines)
    chart = line_chart(lines, title=title, describe=describe, axis=axis)
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption><div class=muted>{keys}</div>{chart}</figure>"
    )
