"""The model card of a trained model: a section between two markers in README.md; everything else is the user's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from constraintlang_compiler.artifact import write_whole
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.model_names import is_hub_id, split_revision
from constraintlang_runtime.report.data import ClauseResult, clause_result
from constraintlang_runtime.report.legible import legible
from constraintlang_runtime.report.provenance import command_line
from constraintlang_runtime.report.words import SYMBOLS, amount, deciding_bound, interval, is_soft, limit
from constraintlang_runtime.small_writes import writing_small

NAME = "README.md"
METHODS = {
    "constraint": "This model was fine-tuned with `constraintc train` under this policy.",
    "filtering": "This model was fine-tuned on rows that obey this policy; the policy had no other part in training.",
    "plain": "This model was fine-tuned without regard to this policy, to compare with.",
}
BEGIN, END = b"<!-- constraintlang: begin -->", b"<!-- constraintlang: end -->"
# the innermost pair: a marker that lost its partner never takes the user's text with it
_SECTION = re.compile(re.escape(BEGIN) + b"(?:(?!" + re.escape(BEGIN) + b").)*?" + re.escape(END), re.DOTALL)

_FRONT = re.compile(
    rb"\A---\n(base_model: [^\n]*\n)?library_name: [^\n]*\ntags:\n- constraintlang\n---\n\n# [^\n]*\n"
)


def write_card(
    folder: Path, policy_text: str, record: Mapping[str, Any], verdict: Mapping[str, Any] | None = None
) -> Path:
    """Write or renew the section of ``folder/README.md``; returns its path.

    A card that is not there begins with the metadata of a Hugging Face model card. Of one that is, every byte outside
    the markers stays; without markers the section is added at the end. ``record`` is ``run.json``, ``verdict`` the
    content of ``verdict.json``.
    Raises: TrainingError when it cannot be written.
    """
    path = folder / NAME
    section = BEGIN + b"\n" + _guarded(card_section(policy_text, record, verdict)) + b"\n" + END
    with writing_small(f"the model card to `{path}`", help="free space there, or make it writable"):
        old = path.read_bytes() if path.exists() else _front(record).encode()
        if _SECTION.search(old):
            new = _SECTION.sub(lambda match: section, old, count=1)
        else:
            gap = b"" if old.endswith(b"\n\n") else b"\n" if old.endswith(b"\n") else b"\n\n"
            new = old + (gap if old else b"") + section + b"\n"
        if not path.exists() or new != old:
            write_whole(path, new)
    return path


def update_card(folder: Path, verdict: Mapping[str, Any]) -> Path:
    """Put the verdict of an evaluation into the card of a model that ``constraintc train`` wrote.

    Raises: ConfigError when the folder is not the output of such a run.
    """
    record, policy = require_trained(folder)
    return write_card(folder, policy.read_text(encoding="utf-8"), record, verdict)


def require_trained(folder: Path) -> tuple[dict[str, Any], Path]:
    """The record and the policy's source of a trained model; ConfigError when the folder has none."""
    own = folder / "constraint"
    policy = own / "policy" / "policy.source.policy"
    if not (own / "run.json").is_file() or not policy.is_file():
        raise ConfigError(
            f"`{folder}` is not the output of `constraintc train`",
            help="leave --card out, or give --model the folder of a trained model",
            parameter="card",
        )
    record: dict[str, Any] = json.loads((own / "run.json").read_text(encoding="utf-8"))
    return record, policy


def user_text(folder: Path) -> bytes | None:
    """The card of a folder that is about to be cleared, when something in it is not ours."""
    path = folder / NAME
    if not path.is_file():
        return None
    card = path.read_bytes()
    return card if _FRONT.sub(b"", _SECTION.sub(b"", card)).strip() else None


def card_section(
    policy_text: str, record: Mapping[str, Any], verdict: Mapping[str, Any] | None = None
) -> str:
    """The Markdown of the section: policy, verdicts, hashes, commands."""
    fence = _fence(policy_text)
    parts = [
        "## Constraints",
        METHODS.get(record["method"], METHODS["constraint"]),
        f"{fence}\n{legible(policy_text).rstrip()}\n{fence}",
        "### Verification",
        *(_unverified(record) if verdict is None else _verified(verdict)),
        "### Provenance",
        _provenance(record, verdict),
    ]
    return "\n\n".join(parts)


def _front(record: Mapping[str, Any]) -> str:
    """The metadata and title of a new card."""
    metadata: dict[str, Any] = {"library_name": "transformers", "tags": ["constraintlang"]}
    model = str(record["model"])
    if is_hub_id(model) and not Path(model).exists():  # a path of this machine says nothing to others
        metadata = {"base_model": split_revision(model)[0], **metadata}
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n# {_text(Path(split_revision(model)[0]).name)}, fine-tuned under a policy\n"


def _unverified(record: Mapping[str, Any]) -> list[str]:
    return ["Not verified yet. After `constraintc eval --card` the verdicts stand here."]


def _verified(verdict: Mapping[str, Any]) -> list[str]:
    clauses = [clause_result(clause) for clause in verdict["clauses"]]
    sampling = verdict.get("sampling") or {}
    said = ", ".join(f"{key} {value}" for key, value in sampling.items())
    lines = [f"> ⚠ {_text(warning)}" for warning in verdict.get("warnings", ())]
    if seen := verdict.get("prompts_seen_in_training"):
        lines.append(
            f"> ⚠ {seen:,} of {verdict['num_prompts']:,} prompts were seen in training: less is said of new prompts"
        )
    return [
        "Each verdict rests on a one-sided bound at the clause's confidence, on prompts like those that the model was "
        "judged on" + (f" ({said})." if said else "."),
        *lines,
        _verdict_rows(clauses),
    ]


def _verdict_rows(clauses: Sequence[ClauseResult]) -> str:
    rows = ["| statement | prompts | estimate | interval | bound | verdict |", "|---|--:|--:|--:|--:|---|"]
    for clause in clauses:
        soft = " (prefer)" if is_soft(clause) else ""
        cells = (
            _text(clause.clause), f"{clause.n:,}", amount(clause, clause.estimate), interval(clause),
            "none" if clause.hard else limit(clause),
            f"{SYMBOLS[clause.verdict]} {clause.verdict}{soft}, {deciding_bound(clause)}",
        )  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _provenance(record: Mapping[str, Any], verdict: Mapping[str, Any] | None) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    commands = [record.get("command")]
    if verdict is not None and verdict.get("settings"):
        commands.append(command_line("eval", "POLICY", verdict["settings"]))
    lines = [
        f"- policy: `{record['semantic_hash']}`",
        f"- run: `{record['fingerprint']}`",
        f"- start model: {_text(str(record['model']))}{_commit(record)}",
        f"- {record['steps']:,} steps on {record['rows']:,} rows",
        f"- versions: {_text(versions)}",
    ]
    if verdict is not None and verdict.get("policy") not in (None, record["semantic_hash"]):
        lines.append(f"- judged under another policy: `{_text(str(verdict['policy']))}`")
    body = "\n".join(legible(command) for command in commands if command)
    fence = _fence(body)
    return "\n".join(lines) + (f"\n\n{fence}sh\n{body}\n{fence}" if body else "")


def _commit(record: Mapping[str, Any]) -> str:
    commit = record.get("model_commit")
    return "" if commit is None else f", commit `{_text(str(commit))}`"


def _fence(text: str) -> str:
    """A fence longer than every run of backticks in the text."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _text(text: str) -> str:
    """A text as Markdown that shows it: no markup, no HTML, one line."""
    line = " ".join(legible(text).split())
    return re.sub(
        r"([\\`*_{}\[\]()#|~])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )


def _guarded(text: str) -> bytes:
    """The section without anything that reads as a marker."""
    return re.sub(rb"<!-- (constraintlang: (?:begin|end))", rb"<! -- \1", text.encode())
