"""The model card and the folders of runs: a user's text is never lost, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile_texts import HOSTILE

from constraintlang_runtime.card import BEGIN, END, require_trained, update_card, user_text, write_card
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.report.provenance import train_command
from constraintlang_runtime.report.run_folders import find_runs, is_run, policy_of
from constraintlang_runtime.run_settings import RunSettings

POLICY = "edition 1\n# `kind` replies\ntoxicity < 0.1\n"
RECORD: dict[str, Any] = {
    "fingerprint": "f" * 64, "semantic_hash": "sha256:" + "a" * 64, "model": "gpt2", "method": "constraint",
    "steps": 480, "rows": 8000, "versions": {"torch": "2.11"}, "command": "constraintc train my.policy --model gpt2",
}  # fmt: skip
VERDICT: dict[str, Any] = {
    "clauses": [
        {"clause": "toxicity < 0.1 | x", "domain": None, "kind": "violation", "n": 2000, "estimate": 0.02,
         "lower": 0.01, "upper": 0.034, "bound": 0.05, "verdict": "holds"}
    ],
    "losses": {}, "degeneracy": {}, "policy": RECORD["semantic_hash"], "warnings": ["replies are *empty*"],
    "settings": {"model": "runs/first", "prompts": ["p.jsonl"], "seed": 3},
}  # fmt: skip


def test_a_new_card_has_metadata_policy_and_command(tmp_path: Path) -> None:
    text = write_card(tmp_path, POLICY, RECORD).read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": "gpt2", "library_name": "transformers", "tags": ["constraintlang"],
    }  # fmt: skip
    for part in (
        POLICY.strip(),
        "Not verified yet",
        RECORD["semantic_hash"],
        RECORD["command"],
        "480 steps on 8,000",
    ):
        assert part in body
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_a_local_start_model_is_no_hub_id(tmp_path: Path) -> None:
    text = write_card(tmp_path, POLICY, {**RECORD, "model": "/home/me/model"}).read_text(encoding="utf-8")
    assert "base_model" not in text


@pytest.mark.parametrize(
    "mine",
    [b"# Mine\n", b"no newline at the end", b"\xff\xfe not UTF-8\r\n", b"", BEGIN + b" lost\n", END + b"\n"],
)
def test_every_byte_of_the_user_stays(tmp_path: Path, mine: bytes) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(mine)
    write_card(tmp_path, POLICY, RECORD)
    path.write_bytes(path.read_bytes() + b"\nafter it\n")
    for verdict in (VERDICT, None, VERDICT):
        write_card(tmp_path, POLICY, RECORD, verdict)
        content = path.read_bytes()
        assert content.startswith(mine)
        assert content.endswith(b"\nafter it\n")
        assert content.count(b"## Constraints") == 1
    assert "✓ holds, 95% upper bound 3.4%".encode() in content
    assert b"constraintc eval POLICY --model runs/first --prompts p.jsonl --seed 3" in content


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "long"])
def test_hostile_texts_stay_inside_the_section(tmp_path: Path, name: str) -> None:
    text = HOSTILE[name] + "\n```\n" + END.decode()
    clause = {**VERDICT["clauses"][0], "clause": text}
    for _ in range(2):
        write_card(
            tmp_path, text, {**RECORD, "model": text}, {**VERDICT, "clauses": [clause], "warnings": [text]}
        )
    content = (tmp_path / "README.md").read_bytes()
    assert content.count(BEGIN) == content.count(END) == 1
    assert content.endswith(END + b"\n")
    table = [line for line in content.decode().split("\n") if line.startswith("| ") and "holds" in line]
    assert len(table) == 1
    assert "<" not in table[0]
    assert "````\n" in content.decode()  # a longer fence than the one in the text


def test_only_a_users_text_outlives_overwrite(tmp_path: Path) -> None:
    assert user_text(tmp_path) is None
    path = write_card(tmp_path, POLICY, RECORD, VERDICT)
    assert user_text(tmp_path) is None  # all of it is ours, and made again
    path.write_bytes(path.read_bytes() + b"mine\n")
    assert user_text(tmp_path) == path.read_bytes()


def trained(folder: Path) -> Path:
    own = folder / "constraint" / "policy"
    own.mkdir(parents=True)
    (folder / "constraint" / "run.json").write_text(json.dumps(RECORD))
    (own / "policy.source.policy").write_text(POLICY)
    return folder


def evaluated(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdict.json").write_text(json.dumps(VERDICT | changes))
    return folder


def test_the_card_of_a_trained_model_takes_a_verdict(tmp_path: Path) -> None:
    assert b"95% upper bound 3.4%" in update_card(trained(tmp_path / "run"), VERDICT).read_bytes()
    with pytest.raises(ConfigError, match="is not the output of `constraintc train`"):
        require_trained(tmp_path)


# ------------------------------------------------------------ folders of runs
def test_verdicts_are_found_in_a_run_or_beside_it(tmp_path: Path) -> None:
    inside, beside = trained(tmp_path / "a" / "first"), trained(tmp_path / "b" / "first")
    evaluated(inside)
    evaluated(tmp_path / "b" / "first-eval")
    alone = evaluated(tmp_path / "base", settings={"model": str(inside)})
    found = find_runs([str(inside), str(beside), str(alone)])
    assert [one.label for one in found] == ["a/first", "b/first", f"{tmp_path.name}/base"]
    assert [one.evaluation for one in found] == [inside, tmp_path / "b" / "first-eval", alone]
    assert [one.run for one in found] == [inside, beside, inside]  # an evaluation says which model it judged
    assert all(is_run(str(folder)) for folder in (inside, beside, alone))


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda p: p, "does not exist"), (lambda p: p.mkdir() or p, "holds neither `verdict.json` nor"),
     (trained, "is not verified yet")],
)  # fmt: skip
def test_a_folder_without_a_verdict_is_named(tmp_path: Path, make: Any, message: str) -> None:
    folder = make(tmp_path / "run")
    with pytest.raises(DataError, match=message) as caught:
        find_runs([str(folder)])
    assert "constraintc" in str(caught.value.help)


def test_a_folder_given_twice_and_a_policy_that_nobody_has(tmp_path: Path) -> None:
    folder = str(evaluated(tmp_path / "ev", settings={"model": "gpt2"}))
    with pytest.raises(ConfigError, match="given twice"):
        find_runs([folder, f"{folder}/."])
    with pytest.raises(ConfigError, match="no policy is known"):
        policy_of(find_runs([folder]))


def test_a_training_command_names_every_setting() -> None:
    given = RunSettings(
        model="gpt2",
        data=("chat=a b.jsonl", "c.jsonl"),
        output="runs/x",
        config={"max_steps": 5, "bf16": False},
    )
    assert train_command("my.policy", given) == (
        "constraintc train my.policy --model gpt2 --data 'chat=a b.jsonl' --data c.jsonl --max_steps 5 --bf16 false "
        "--output runs/x"
    )
