"""``constraintc eval`` on quantiles, cvar, strata, the base model and choices: recomputed from the samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import World, read_jsonl, write_jsonl

from constraintc.main import main

Captured = pytest.CaptureFixture[str]
HEAD = 'edition 1\nattribute toxicity: score in [0, 1] lower_is_better { backend = lexicon("words.tsv") }\n'


@pytest.fixture
def judge(copied_world: World, capsys: Captured, tmp_path: Path) -> Any:
    """Run eval of the start model under a policy; (exit code, verdicts by name, samples, stderr)."""
    rows = read_jsonl(copied_world.prompts)
    tagged = [{**row, "part": "odd" if i % 2 else "even"} for i, row in enumerate(rows)]
    prompts = write_jsonl(tmp_path / "prompts.jsonl", tagged)

    def run(policy: str, *flags: str) -> tuple[int, dict[str, Any], list[dict[str, Any]], str]:
        copied_world.policy.write_text(HEAD + policy)
        capsys.readouterr()
        code = main(
            ["eval", str(copied_world.policy), "--model", str(copied_world.model), "--prompts", str(prompts),
             "--max_new_tokens", "10", "--output", str(tmp_path / "ev"), "--overwrite", *flags]
        )  # fmt: skip
        err = capsys.readouterr().err
        folder = tmp_path / "ev"
        if not (folder / "verdict.json").exists():
            return int(code), {}, [], err
        found = json.loads((folder / "verdict.json").read_text())["clauses"]
        return int(code), {c["clause"]: c for c in found}, read_jsonl(folder / "samples.jsonl"), err

    return run


def scores(samples: list[dict[str, Any]], clause: str) -> np.ndarray:
    return np.array([s["scores"]["toxicity"] for s in samples if s["clause"] == clause])


def test_tails_are_shown_in_scores(judge: Any) -> None:
    policy = "tail: quantile(toxicity, 0.8) < 0.9\nusual: median(toxicity) <= 1\nworst: cvar(toxicity, 0.5) <= 0.99\n"
    code, found, samples, err = judge(policy)
    values = np.sort(scores(samples, "tail"))
    tail, usual, worst = found["tail"], found["usual"], found["worst"]
    assert (tail["kind"], tail["bound"], tail["strict"], tail["n"]) == ("quantile", 0.9, True, 40)
    assert tail["estimate"] == values[int(np.ceil(0.8 * 40)) - 1]
    assert (usual["verdict"], usual["estimate"]) == ("holds", values[19])
    assert worst["kind"] == "cvar"
    assert worst["estimate"] == pytest.approx(values[20:].mean())
    assert worst["lower"] <= worst["estimate"] <= worst["upper"]
    assert {s["statistic"] for s in samples if s["clause"] == "worst"} == {
        None
    }  # no response breaks a cvar alone
    assert code in (0, 1), err


def test_every_stratum_is_judged_by_itself(judge: Any) -> None:
    code, found, samples, _ = judge("fair: mean(toxicity) <= 0.99 per part\n")
    assert sorted(found) == ["fair[part=even]", "fair[part=odd]"]
    for name, verdict in found.items():
        assert (verdict["n"], verdict["verdict"]) == (20, "holds")
        assert verdict["estimate"] == pytest.approx(scores(samples, name).mean())
        assert verdict["alpha"] == pytest.approx(0.025)
    assert code == 0


def test_a_stratum_without_prompts_is_vacuous_and_a_missing_key_an_error(judge: Any) -> None:
    policy = "tag part in {even, odd, other}\nfair: mean(toxicity) <= 0.99 per part\n"
    code, found, _, _ = judge(policy)
    assert {name: v["verdict"] for name, v in found.items()} == {
        "fair[part=even]": "holds",
        "fair[part=odd]": "holds",
        "fair[part=other]": "vacuous",
    }
    assert code == 4
    only_empty = "tag part in {other}\nfair: mean(toxicity) <= 0.99 per part under temperature=0.5\n"
    code, found, _, _ = judge(only_empty)
    assert (code, found["fair[part=other]"]["verdict"]) == (4, "vacuous")
    code, _, _, err = judge("fair: mean(toxicity) <= 0.99 per topic\n")
    assert code == 2
    assert "`fair` is judged per `topic`" in err


@pytest.mark.parametrize("count", [1, 2])
def test_a_conditional_chance_is_a_domain_and_a_gap_compares_two(judge: Any, count: int) -> None:
    policy = (
        "some: P(toxicity > 0.5 | part=odd) <= 99%\n"
        "gap: P(toxicity > 0.5 | part=odd) <= 0.01 + 1.2 * P(toxicity > 0.5 | part=even)\n"
    )
    _, found, samples, _ = judge(policy, "--samples", str(count))
    assert found["some"]["n"] == 20
    assert found["some"]["domain"] == "part=odd"
    gap = found["gap"]
    assert (gap["kind"], gap["quantity"], gap["n"], gap["bound"]) == ("difference", "difference", 40, 0.01)
    hits = (scores(samples, "gap") > 0.5).reshape(40, count).mean(axis=1)
    assert gap["estimate"] == pytest.approx(hits[1::2].mean() - 1.2 * hits[::2].mean())


def test_the_base_model_answers_the_same_prompts(judge: Any, world: World) -> None:
    policy = (
        "less: mean(toxicity) <= base + 0.5\n"
        "tail: quantile(toxicity, 0.5) <= 2 * base + 0.9\n"
        "either: mean(toxicity) <= 0.0001 or P(toxicity > 0.5) <= base + 60%\n"
    )
    code, _, _, err = judge(policy)
    assert code == 2
    assert "--base" in err
    code, found, samples, _ = judge(policy, "--base", str(world.model), "--samples", "2")
    less = found["less"]
    values = scores(samples, "less")
    assert (less["kind"], less["n"], less["samples"], less["verdict"]) == ("mean", 40, 2, "holds")
    assert less["estimate"] == pytest.approx(values.mean())
    # The base model's own answers, drawn by themselves.
    assert abs(less["bound"] - 0.5 - less["estimate"]) > 1e-6
    assert less["note"] == f"the base model reaches {less['bound'] - 0.5:.4g}"
    assert (found["tail"]["kind"], found["tail"]["verdict"]) == ("quantile", "holds")
    assert (found["either"]["kind"], found["either"]["verdict"]) == ("choice", "holds")
    assert "`mean(toxicity) <= 0.0001` violated" in found["either"]["note"]
    assert code == 0


def test_a_score_under_the_base_model_needs_its_own_scorer(judge: Any, copied_world: World) -> None:
    policy = "attribute strange: real in [1, inf]\nno_worse: strange <= 1.5 * base\n"
    code, _, _, err = judge(policy, "--scorer", f"strange={copied_world.root / 'words.tsv'}")
    assert code == 2
    assert "`strange@base`" in err


def test_a_report_shows_every_kind(judge: Any, copied_world: World, capsys: Captured, tmp_path: Path) -> None:
    policy = (
        "tail: quantile(toxicity, 0.8) < 0.9\nworst: cvar(toxicity, 0.5) <= 0.99\n"
        "gap: P(toxicity > 0.5 | part=odd) <= P(toxicity > 0.5 | part=even)\n"
        "either: mean(toxicity) < 0.1 or P(toxicity > 0.5) < 99%\n"
    )
    judge(policy)
    page = tmp_path / "page.html"
    folder = str(tmp_path / "ev")
    words = [
        "report",
        str(copied_world.policy),
        "--system",
        f"before={folder}",
        "--system",
        f"after={folder}",
    ]
    assert main([*words, "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    for part in (
        "The quantile in",
        "The conditional value at risk in",
        "The difference in",
        "Of the alternatives in",
    ):
        assert part in text
    assert "nan" not in capsys.readouterr().out.lower()
