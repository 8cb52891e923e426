"""``constraintc train`` as a user meets it: flags and YAML, policies in two forms, dry runs, JSON, provenance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_models import SETTINGS, World

from constraintc.main import main

Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(words))
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "model"
    assert main(["train", *world.flags(output)]) == 0
    return output


def test_the_output_is_a_model_with_its_record(world: World, trained: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(trained)
    assert len(AutoTokenizer.from_pretrained(trained)) == model.config.vocab_size
    record = json.loads((trained / "constraint" / "run.json").read_text())
    assert record["steps"] == 6
    assert record["rows"] == 48
    assert record["resumed"] is False
    assert record["groups"][0]["clauses"] == ["kind"]
    assert record["settings"]["rounds"] == 3
    assert {"torch", "transformers", "python"} <= set(record["versions"])
    assert any("loss_lm" in entry for entry in record["history"])
    assert main(["train", *world.flags(trained), "--resume"]) == 0
    assert not [path for path in trained.iterdir() if path.suffix in {".pkl", ".pt", ".bin"}]


def test_yaml_and_flags_give_the_same_run(
    world: World, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    content = {
        "model": str(world.model),
        "data": [str(world.data)],
        "prompts": [str(world.prompts)],
        **SETTINGS,
    }
    content |= {"output": str(tmp_path / "yaml"), "learning_rate": 9.9, "seed": 99}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    flags = ["--learning_rate", str(SETTINGS["learning_rate"]), "--seed=3"]  # flags win over the file
    assert main(["train", str(world.policy), "--config", str(tmp_path / "run.yaml"), *flags]) == 0
    assert (tmp_path / "yaml" / "model.safetensors").read_bytes() == (
        trained / "model.safetensors"
    ).read_bytes()


def test_a_compiled_policy_trains_alike(world: World, trained: Path, tmp_path: Path) -> None:
    assert main(["compile", str(world.policy), "-o", str(tmp_path / "compiled")]) == 0
    scorer = f"toxicity={world.root / 'words.tsv'}"
    flags = world.flags(tmp_path / "out", policy=tmp_path / "compiled", scorer=scorer)
    assert main(["train", *flags]) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        trained / "model.safetensors"
    ).read_bytes()


def test_a_classifier_as_scorer(world: World, classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "p.policy").write_text("edition 1\nkind: toxicity < 0.5 for domain=chat\n")
    flags = world.flags(tmp_path / "out", policy=tmp_path / "p.policy", scorer=f"toxicity={classifier}#rude")
    assert main(["train", *flags]) == 0


@pytest.mark.parametrize("anchor", ["start", "tuned", "previous"])
def test_a_dry_run_writes_nothing(world: World, tmp_path: Path, capsys: Captured, anchor: str) -> None:
    output = tmp_path / "out"
    before = set(tmp_path.rglob("*")), {p: p.stat().st_mtime_ns for p in world.root.rglob("*")}
    code, out, _ = run(capsys, "train", *world.flags(output, anchor=anchor), "--dry-run", "--format", "json")
    assert code == 0
    found = json.loads(out)
    assert found["rows"] == 48
    assert found["groups"][0]["name"] == "chat"
    assert found["groups"][0]["prompts"] == 40
    assert 0.3 < found["groups"][0]["corpus_means"][0] <= 1
    assert found["peak_memory_gib"] > 0
    assert found["planned_steps"] == 6
    drawn = {"start": 48 + 3 * 24, "tuned": 24 + 48 + 24, "previous": 48 + 3 * 24}
    assert found["planned_samples"] == drawn[anchor]
    assert (set(tmp_path.rglob("*")), {p: p.stat().st_mtime_ns for p in world.root.rglob("*")}) == before
    code, out, _ = run(capsys, "train", *world.flags(output, anchor=anchor), "--dry-run")
    assert code == 0
    assert "rows 48" in out
    assert "GiB" in out
    assert "chat: 40 prompts" in out
    assert not output.exists()


def test_json_is_alone_on_stdout(world: World, tmp_path: Path, capsys: Captured) -> None:
    code, out, err = run(capsys, "train", *world.flags(tmp_path / "out", method="plain"), "--format", "json")
    assert code == 0
    record = json.loads(out)
    assert record["method"] == "plain"
    assert "history" not in record
    code, out, err = run(
        capsys, "train", *world.flags(tmp_path / "out", method="plain"), "--resume", "--format", "json"
    )
    assert json.loads(out) == record
    assert "nothing to resume" in err


def test_the_human_result_names_the_next_command(world: World, tmp_path: Path, capsys: Captured) -> None:
    code, out, err = run(capsys, "train", *world.flags(tmp_path / "out"))
    assert code == 0
    assert "trained 6 steps on 48 rows" in out
    assert f"constraintc eval {world.policy} --model {tmp_path / 'out'}" in out
    assert "{'" not in out  # no library's log records
    assert "Traceback" not in err


def test_the_result_has_every_clause_of_the_policy(world: World, tmp_path: Path, capsys: Captured) -> None:
    """`preserve` clauses stand beside the others; one without rows is told as such, before and after."""
    (tmp_path / "words.tsv").write_bytes((world.root / "words.tsv").read_bytes())
    policy = tmp_path / "p.policy"
    same, other = (
        f"preserve mean(perplexity) <= 1.5 * base for domain={name}" for name in ("kitchen", "wiki")
    )
    policy.write_text(f"{world.policy.read_text()}same: {same}\nother: {other}\n")
    code, out, err = run(
        capsys, "train", *world.flags(tmp_path / "out", policy=policy, method="plain"), "--quiet"
    )
    assert code == 0
    found = json.loads((tmp_path / "out" / "constraint" / "run.json").read_text())
    (budget,) = found["preserve"]
    base, value, bound = (f"{budget[key]:.4g}" for key in ("base", "value", "bound"))
    assert "on held-out rows, start model and last round:" in out
    assert f"  same: perplexity {base} -> {value} (at most {bound})\n" in out
    assert "\nverified only: other\n" in out
    assert "  kind: " in out
    assert (
        "warning: no training row lies in the domain of `other` (wiki); the training rows have the domains chat, "
        "kitchen: training does not act on it, and it is verified only\n"
    ) in err


def test_filtering_tells_how_many_rows_it_dropped(world: World, tmp_path: Path, capsys: Captured) -> None:
    code, out, _ = run(
        capsys, "train", *world.flags(tmp_path / "out", method="filtering"), "--format", "json"
    )
    record: dict[str, Any] = json.loads(out)
    assert code == 0
    assert record["rows_dropped"] > 5
    assert record["rows"] + record["rows_dropped"] == 48


def test_a_process_of_its_own_keeps_its_streams_apart(world: World, tmp_path: Path) -> None:
    """What libraries print themselves, their bars and warnings, must not reach standard output."""
    words = ["train", *world.flags(tmp_path / "out", max_steps=2, rounds=2), "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "constraintc.main", *words], capture_output=True, text=True, timeout=200,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
