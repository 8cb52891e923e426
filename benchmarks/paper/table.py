"""The result file of a table: its rows over their seeds, with every sample beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from context import Context
from job import Trained, config_of
from plan import Row
from row import MEASURES
from stamps import read_record
from summary import over_seeds

RESULTS = Path(__file__).parent / "results"
COUNTED = ("seconds", "device_seconds", "oracle_calls", "steps", "tokens")


def table_rows(
    table: str, context: Context, rows: Sequence[Row], systems: Sequence[str]
) -> list[dict[str, Any]]:
    """One entry per system and architecture with a finished row, in the table's order, as the result file has it."""
    found = []
    architectures = list(dict.fromkeys(row.architecture for row in rows))
    for architecture in architectures:
        for system in systems:
            done = [
                row for row in rows
                if (row.system, row.architecture) == (system, architecture) and read_record(context.job(row)) is not None
            ]  # fmt: skip
            if done:
                found.append(_entry(table, context, system, architecture, done))
    return found


def _entry(
    table: str, context: Context, system: str, architecture: str, rows: Sequence[Row]
) -> dict[str, Any]:
    folders = [context.job(row).folder for row in rows]
    trained = [Trained.read(folder) for folder in folders]
    measures = [json.loads((folder / MEASURES / "measures.json").read_text()) for folder in folders]
    config = config_of(system)
    counted = {name: sum(getattr(one, name) for one in trained) / len(trained) for name in COUNTED}
    own = sum(one.details.get("stage_seconds", one.seconds) for one in trained) / len(trained)
    return {
        "table": table, "system": config.get("name", system), "says": config["says"], "scale": context.setting.scale.name,
        "architecture": architecture, "seeds": [row.seed for row in rows], **over_seeds(measures), **counted,
        "own_seconds": own, "stages": list(trained[0].stages), "options": config.get("options") or {},
        "details": [{key: value for key, value in one.details.items() if key != "settings"} for one in trained],
    }  # fmt: skip


def samples_of(context: Context, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Every sample of finished rows: prompt, completion, score, seed, protocol, with system and architecture."""
    for row in rows:
        job = context.job(row)
        path = job.folder / MEASURES / "samples.jsonl"
        if read_record(job) is None or not path.exists():
            continue
        name = config_of(row.system).get("name", row.system)
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield {
                    "system": name,
                    "architecture": row.architecture,
                    **json.loads(line),
                }


def write_samples(path: Path, samples: Iterable[dict[str, Any]]) -> int:
    """JSON lines in one zstd stream; the same bytes for the same samples. Returns how many."""
    try:
        import zstandard
    except ImportError as error:
        raise SystemExit(f"{error}: pip install zstandard, which packs the samples") from error
    count = 0
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file, zstandard.ZstdCompressor(level=12).stream_writer(file) as packed:
        for sample in samples:
            packed.write((json.dumps(sample, ensure_ascii=False) + "\n").encode())
            count += 1
    part.replace(path)
    return count


def read_samples(path: Path) -> Iterator[dict[str, Any]]:
    """Inverse of ``write_samples``."""
    import io

    import zstandard

    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
        for line in io.TextIOWrapper(unpacked, encoding="utf-8"):
            yield json.loads(line)


def result_path(table: str, context: Context) -> Path:
    """Where a table's figures go; those of the smoke scale say nothing and stay in the work folder."""
    scale = context.setting.scale.name
    return (context.work if scale == "smoke" else RESULTS) / f"{table}-{scale}.json"
