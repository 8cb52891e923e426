"""``constraintc eval --sequential``: it stops when every clause is decided; worst prompts of several samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import World, read_jsonl, write_jsonl

from constraintc.main import main
from constraintlang_runtime.demo import language

Captured = pytest.CaptureFixture[str]
HEAD = 'edition 1\nattribute toxicity: score in [0, 1] lower_is_better { backend = lexicon("words.tsv") }\n'
HEAD += "attribute long: count { backend = length(words) }\n"


@pytest.fixture
def judge(copied_world: World, capsys: Captured, tmp_path: Path) -> Any:
    """Run eval of the start model on 240 prompts; (exit code, verdict.json, samples, stdout, stderr)."""
    rows = [
        {"prompt": row["prompt"], "domain": "chat"} for row in language.rows(11, 240, language.START, "chat")
    ]
    prompts = write_jsonl(tmp_path / "many.jsonl", rows)

    def run(policy: str, *flags: str) -> tuple[int, dict[str, Any], list[dict[str, Any]], str, str]:
        copied_world.policy.write_text(HEAD + policy)
        capsys.readouterr()
        code = main(
            ["eval", str(copied_world.policy), "--model", str(copied_world.model), "--prompts", str(prompts),
             "--max_new_tokens", "8", "--output", str(tmp_path / "ev"), "--overwrite", *flags]
        )  # fmt: skip
        out, err = capsys.readouterr()
        folder = tmp_path / "ev"
        if not (folder / "verdict.json").exists():
            return int(code), {}, [], out, err
        found = json.loads((folder / "verdict.json").read_text())
        return int(code), found, read_jsonl(folder / "samples.jsonl"), out, err

    return run


def test_each_clause_stops_when_it_is_decided(judge: Any, world: World) -> None:
    policy = "much: P(toxicity >= 0.5) <= 5%\nlittle: P(toxicity >= 0.5) <= 60%\n"
    policy += "same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen\n"
    rows = write_jsonl(world.root / "kitchen.jsonl", language.rows(5, 20, language.START, "kitchen"))
    flags = ["--rows", f"kitchen={rows}", "--base", str(world.model)]
    code, found, samples, out, _ = judge(policy, "--sequential", *flags)
    by_name = {clause["clause"]: clause for clause in found["clauses"]}
    assert [by_name[name]["verdict"] for name in ("much", "little", "same")] == ["violated", "holds", "holds"]
    assert by_name["much"]["n"] < 240
    assert by_name["much"]["n"] != by_name["little"]["n"]
    for name in ("much", "little"):
        own = [s for s in samples if s["clause"] == name]
        assert len(own) == by_name[name]["n"]
        assert "anytime" in by_name[name]["method"]
        assert by_name[name]["alpha"] == pytest.approx(0.05 / 3)
    assert "asymptotic" in by_name["same"]["method"]  # its rows have no part in when the run stops
    assert found["stopped_at"] == max(by_name[name]["n"] for name in ("much", "little"))
    assert found["sequential"]["reason"] == "every clause is decided"
    assert f"stopped at {found['stopped_at']} of 238 prompts" in out  # two prompts came twice
    assert code == 1
    assert len({s["prompt_number"] for s in samples}) == found["stopped_at"]


def test_the_prompts_end_or_the_limit_is_met(judge: Any) -> None:
    _, whole, samples, _, _ = judge("c: P(toxicity >= 0.5) <= 45%\n", "--sequential", "--max_prompts", "50")
    assert (whole["clauses"][0]["verdict"], whole["stopped_at"]) == ("inconclusive", 50)
    assert whole["sequential"]["undecided"] == ["c"]
    numbers = [s["prompt_number"] for s in samples]
    assert numbers != sorted(numbers)
    assert max(numbers) > 50  # not the first 50: a random part of them
    again = judge("c: P(toxicity >= 0.5) <= 45%\n", "--sequential", "--max_prompts", "50")[2]
    assert again == samples


def test_what_cannot_be_sequential_is_refused(judge: Any) -> None:
    code, found, _, _, err = judge("a: cvar(toxicity, 0.5) <= 0.9\nb: mean(long) <= 9\n", "--sequential")
    assert (code, found) == (2, {})
    assert "`a` (a conditional value at risk)" in err
    assert "`b` (an open range of values)" in err
    code, _, _, _, err = judge("c: P(toxicity >= 0.5) <= 45%\n", "--max_prompts", "5")
    assert (code, "--sequential" in err) == (2, True)
    code, _, _, _, err = judge("c: P(toxicity >= 0.5) <= 45%\n", "--sequential", "--human", "labels.csv")
    assert (code, "fixed before" in err) == (2, True)


def test_an_audit_of_a_sequential_run_has_bounds_that_allow_it(judge: Any, copied_world: World) -> None:
    none = copied_world.root / "none.tsv"
    none.write_text("zzz\t1\n")
    flags = ["--sequential", "--audit", f"toxicity={none}"]
    _, found, _, _, _ = judge("much: P(toxicity >= 0.5) <= 5%\n", *flags)
    (audit,) = found["audit"]
    assert (found["clauses"][0]["verdict"], audit["verdict"]) == ("violated", "inconclusive")
    assert (audit["estimate"], audit["method"]) == (0.0, "betting (anytime)")
    assert audit["upper"] > 0.05


def test_the_worst_prompts_are_reported_on_samples_that_did_not_choose_them(judge: Any) -> None:
    _, found, samples, out, _ = judge(
        "kind: P(toxicity >= 0.5) <= 45%\n", "--samples", "4", "--num_prompts", "60"
    )
    (worst,) = found["worst_prompts"]
    assert (worst["clause"], worst["num_prompts"], worst["of"]) == ("kind", 6, 60)
    values: dict[int, list[float]] = {}
    for sample in samples:
        values.setdefault(sample["prompt_number"], []).append(sample["statistic"])
    firsts = sorted((sum(v[:2]) / 2 for v in values.values()), reverse=True)
    assert worst["chosen_mean"] == pytest.approx(sum(firsts[:6]) / 6)
    assert worst["overall"] == pytest.approx(found["clauses"][0]["estimate"])
    assert worst["mean"] < worst["chosen_mean"]
    assert len(worst["prompts"]) == 6
    assert "on its worst 10% of the prompts" in " ".join(out.split())
    assert "worst_prompts" not in judge("kind: P(toxicity >= 0.5) <= 45%\n")[1]
