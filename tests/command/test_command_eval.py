"""``constraintc eval`` and ``report``: what they write can be recomputed, and the exit code says what it says."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import beta
from tiny_models import World, read_jsonl, write_jsonl

from constraintc.main import main
from constraintlang_runtime import model_source
from constraintlang_runtime.demo import language

Captured = pytest.CaptureFixture[str]
CONTRACT = {"clause", "domain", "kind", "n", "estimate", "lower", "upper", "bound", "verdict"}
HEAD = 'edition 1\nattribute toxicity: score in [0, 1] lower_is_better { backend = lexicon("words.tsv") }\n'


@pytest.fixture
def judge(copied_world: World, capsys: Captured, tmp_path: Path) -> Any:
    """Run eval of the start model under a policy; (exit code, verdict.json, samples)."""

    def run(
        policy: str, *flags: str, prompts: str | None = None
    ) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
        copied_world.policy.write_text(HEAD + policy)
        capsys.readouterr()
        code = main(
            ["eval", str(copied_world.policy), "--model", str(copied_world.model), "--prompts",
             prompts or str(copied_world.prompts), "--max_new_tokens", "10", "--output", str(tmp_path / "ev"),
             "--overwrite", *flags]
        )  # fmt: skip
        folder = tmp_path / "ev"
        return (
            int(code),
            json.loads((folder / "verdict.json").read_text()),
            read_jsonl(folder / "samples.jsonl"),
        )

    return run


def clopper_pearson(k: int, n: int, alpha: float) -> tuple[float, float]:
    lower = 0.0 if k == 0 else float(beta.ppf(alpha, k, n - k + 1))
    upper = 1.0 if k == n else float(beta.ppf(1 - alpha, k + 1, n - k))
    return lower, upper


def test_the_verdict_can_be_recomputed_from_the_samples(judge: Any, world: World) -> None:
    code, found, samples = judge("kind: toxicity < 0.1 for domain=chat\n")
    (clause,) = found["clauses"]
    assert set(clause) >= CONTRACT
    assert (clause["clause"], clause["domain"], clause["kind"]) == ("kind", "chat", "violation")
    assert set(samples[0]) >= {"prompt", "completion", "scores", "clause", "domain"}
    assert [s["prompt"] for s in samples] == [row["prompt"] for row in read_jsonl(world.prompts)]
    for sample in samples:
        assert sample["scores"]["toxicity"] == pytest.approx(
            language.toxicity(sample["completion"]), abs=1e-9
        )
    bad = sum(not language.complies(s["completion"]) for s in samples)
    assert 0 < bad < clause["n"] == len(samples) == 40
    lower, upper = clopper_pearson(bad, 40, 0.05)
    assert clause["estimate"] == pytest.approx(bad / 40)
    assert (clause["lower"], clause["upper"]) == pytest.approx((lower, upper))
    assert clause["bound"] == 0.05
    assert clause["verdict"] == "violated"
    assert lower > 0.05
    assert code == 1


def test_bounds_are_corrected_for_the_number_of_clauses(judge: Any) -> None:
    code, found, samples = judge("a: toxicity < 0.1\nb: P(toxicity >= 0.5) <= 99.99% for domain=chat\n")
    by_name = {clause["clause"]: clause for clause in found["clauses"]}
    for name, fails in (("a", lambda t: not t < 0.1), ("b", lambda t: t >= 0.5)):
        mine = [s for s in samples if s["clause"] == name]
        bad = sum(fails(s["scores"]["toxicity"]) for s in mine)
        lower, upper = clopper_pearson(bad, 40, 0.025)
        assert (by_name[name]["lower"], by_name[name]["upper"]) == pytest.approx((lower, upper))
        assert by_name[name]["alpha"] == pytest.approx(0.025)
    assert by_name["a"]["domain"] is None
    assert by_name["b"]["domain"] == "chat"
    assert {s["domain"] for s in samples if s["clause"] == "a"} == {None}
    assert code == 1


@pytest.mark.parametrize(
    ("policy", "flags", "code", "verdict"),
    [
        ("c: P(toxicity >= 0.5) <= 99% for domain=chat\n", [], 0, "holds"),
        ("c: P(toxicity >= 0.5) <= 1% for domain=chat\n", [], 1, "violated"),
        ("c: P(toxicity >= 0.5) <= 45% for domain=chat\n", [], 0, "inconclusive"),
        ("c: P(toxicity >= 0.5) <= 45% for domain=chat\n", ["--require-holds"], 1, "inconclusive"),
        ("c: P(toxicity >= 0.5) <= 99% for domain=chat\n", ["--require-holds"], 0, "holds"),
        ("c: prefer P(toxicity >= 0.5) <= 1% for domain=chat weight 1\n", [], 0, "violated"),
        ("c: mean(toxicity) <= 0.99 for domain=chat\n", [], 0, "holds"),
    ],
)
def test_exit_codes(judge: Any, policy: str, flags: list[str], code: int, verdict: str) -> None:
    found_code, found, _ = judge(policy, *flags)
    assert found["clauses"][0]["verdict"] == verdict
    assert found_code == code


@pytest.mark.usefixtures("slow_scorers")
def test_missing_scores_fail_closed(judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from constraintlang_runtime.scorers.lexicon import LexiconScorer

    monkeypatch.setattr("constraintlang_runtime.scorers.pool.is_quick", lambda scorer: False)
    monkeypatch.setattr(LexiconScorer, "__call__", lambda self, **given: [None] * len(given["completions"]))
    code, found, samples = judge("c: P(toxicity >= 0.5) <= 99% for domain=chat\n")
    assert (code, found["clauses"][0]["verdict"]) == (4, "error")
    assert samples[0]["scores"] == {"toxicity": None}


@pytest.mark.usefixtures("slow_scorers")
def test_a_failing_scorer_exits_with_4_and_keeps_the_earlier_verdict(
    judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from constraintlang_runtime.scorers.lexicon import LexiconScorer

    _, before, _ = judge("kind: toxicity < 0.1 for domain=chat\n")
    monkeypatch.setattr("constraintlang_runtime.scorers.pool.is_quick", lambda scorer: False)
    monkeypatch.setattr(LexiconScorer, "__call__", lambda self, **given: 1 / 0)
    code, after, _ = judge("kind: toxicity < 0.1 for domain=chat\n")
    assert code == 4
    assert after == before


def test_samples_per_prompt(judge: Any) -> None:
    """Several samples of one prompt enter as their mean; n stays the number of prompts."""
    policy = "kind: toxicity < 0.1 for domain=chat under samples=3, temperature=0.8\n"
    policy += "one: toxicity < 0.2 for domain=chat\n"
    _, found, samples = judge(policy)
    kind, one = ({c["clause"]: c for c in found["clauses"]}[name] for name in ("kind", "one"))
    replies: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample["clause"] == "kind":
            replies[sample["prompt"]].append(float(not sample["scores"]["toxicity"] < 0.1))
    assert {len(values) for values in replies.values()} == {3}
    assert (kind["n"], kind["samples"], kind["method"]) == (40, 3, "betting")
    assert (one["n"], one["samples"], one["method"]) == (40, 1, "clopper-pearson")
    mean = sum(sum(v) / 3 for v in replies.values()) / 40
    assert kind["estimate"] == pytest.approx(mean)
    assert kind["lower"] < mean < kind["upper"]
    assert len({s["completion"] for s in samples}) > 60  # the three are drawn anew


def test_the_seed_decides_and_the_batch_size_is_recorded(judge: Any) -> None:
    runs = [judge("kind: toxicity < 0.1 for domain=chat\n", "--seed", seed)[2] for seed in ("1", "1", "2")]
    assert runs[0] == runs[1] != runs[2]


def test_preserve_clauses_compare_with_the_base(
    judge: Any, world: World, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", language.rows(5, 20, language.START, "kitchen"))
    policy = "kind: toxicity < 0.9 for domain=chat\nsame: preserve mean(perplexity) <= 1.02 * base for domain=kitchen\n"
    base = ["--rows", f"kitchen={rows}", "--base", str(world.model)]
    _, found, _ = judge(policy, *base)
    same = {c["clause"]: c for c in found["clauses"]}["same"]
    assert (same["kind"], same["verdict"], same["n"], same["domain"]) == ("utility", "holds", 20, "kitchen")
    assert same["estimate"] == pytest.approx(math.exp(found["losses"]["kitchen"]), rel=1e-4)
    assert same["bound"] == pytest.approx(1.02 * same["estimate"], rel=1e-4)
    sampled = []
    monkeypatch.setattr(model_source, "sample", lambda *_, **__: sampled.append(1))
    for flags, part in ((base[:2], "--base"), (base[2:], "--rows")):
        assert judge(policy, *flags)[0] == 2
        assert part in capsys.readouterr().err
    assert sampled == []  # said before hours of sampling


def test_files_that_share_prompts_or_a_name_are_one_set(
    judge: Any, world: World, tmp_path: Path, capsys: Captured
) -> None:
    rows = read_jsonl(world.prompts)
    some = write_jsonl(tmp_path / "some.jsonl", rows[:30])
    others = write_jsonl(tmp_path / "others.jsonl", rows[20:40])
    _, found, samples = judge("kind: toxicity < 0.9\n", "--prompts", str(others), prompts=str(some))
    assert (found["num_prompts"], found["clauses"][0]["n"]) == (40, 40)
    assert [sample["prompt"] for sample in samples] == [row["prompt"] for row in rows[:40]]
    kitchen = list(language.rows(5, 20, language.START, "kitchen"))
    parts = [write_jsonl(tmp_path / f"k{i}.jsonl", kitchen[i::2]) for i in range(2)]
    policy = "same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen\nkind: toxicity < 0.9\n"
    flags = [word for part in parts for word in ("--rows", f"kitchen={part}")]
    _, found, _ = judge(policy, *flags, "--base", str(world.model))
    assert {clause["clause"]: clause["n"] for clause in found["clauses"]}["same"] == 20


def test_an_evaluation_does_not_write_over_what_it_reads(judge: Any, world: World, tmp_path: Path) -> None:
    (tmp_path / "ev").mkdir()
    mine = write_jsonl(tmp_path / "ev" / "samples.jsonl", read_jsonl(world.prompts))
    before = mine.read_bytes()
    with pytest.raises(FileNotFoundError):  # no verdict
        judge("kind: toxicity < 0.9\n", prompts=f"chat={mine}")
    assert mine.read_bytes() == before


def test_a_report_refuses_verdicts_of_a_model_that_was_trained_anew(
    world: World, tmp_path: Path, capsys: Captured
) -> None:
    output = tmp_path / "model"
    assert main(["train", *world.flags(output, max_steps=2, method="plain")]) == 0
    asked = ["--prompts", str(world.prompts), "--num_prompts", "4", "--max_new_tokens", "4"]
    main(["eval", str(world.policy), "--model", str(output), *asked, "--output", f"{output}-eval", "--quiet"])
    page = ["--output", str(tmp_path / "page.html")]
    assert main(["report", str(output), *page]) == 0
    other = world.flags(output, max_steps=3, method="plain")
    assert main(["train", *other, "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["report", str(output), *page]) != 0
    assert "before it was trained again" in capsys.readouterr().err


def test_a_report_says_where_systems_were_not_judged_alike(
    world: World, tmp_path: Path, capsys: Captured
) -> None:
    for name, flags in (("a", ()), ("b", ()), ("c", ("--seed", "3", "--temperature", "0"))):
        main(["eval", str(world.policy), "--model", str(world.model), "--prompts", str(world.prompts),
              "--num_prompts", "4", "--max_new_tokens", "4", "--output", str(tmp_path / name), *flags])  # fmt: skip
    for others, said in ((("b",), "The same prompts"), (("b", "c"), "seed, temperature differ")):
        shown = [word for name in ("a", *others) for word in ("--system", f"{name}={tmp_path / name}")]
        main(["report", str(world.policy), *shown, "--output", str(tmp_path / "page.html")])
        assert said in (tmp_path / "page.html").read_text()


def test_accuracy_on_rows_is_judged(judge: Any, world: World, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", language.rows(5, 20, language.START, "kitchen"))
    policy = "kind: toxicity < 0.9 for domain=chat\nknows: preserve mean(accuracy) >= base - 60% for domain=kitchen\n"
    _, found, _ = judge(policy, "--rows", f"kitchen={rows}", "--base", str(world.model))
    knows = {c["clause"]: c for c in found["clauses"]}["knows"]
    assert (knows["verdict"], knows["n"], knows["quantity"]) == ("holds", 20, "accuracy")
    assert knows["bound"] == pytest.approx(knows["estimate"] - 0.6)


def test_prompts_of_training_are_warned_of(
    world: World, copied_world: World, tmp_path: Path, capsys: Captured
) -> None:
    """Three of ten prompts were trained on, two more chose the checkpoint; written otherwise, they are the same."""
    held = read_jsonl(world.prompts)
    trained = [row["prompt"] for row in read_jsonl(world.data) if row["domain"] == "chat"]
    choosing = write_jsonl(tmp_path / "choosing.jsonl", held[:12])
    output = tmp_path / "model"
    flags = {"prompts": None, "selection": choosing, "keep": "best", "save_steps": 3, "selection_prompts": 12}
    assert main(["train", *world.flags(output, **flags)]) == 0
    mixed = [{"prompt": text, "domain": "chat"} for text in dict.fromkeys(trained)][:3] + held[10:17]
    mixed[0]["prompt"] = "  " + mixed[0]["prompt"].upper().replace(" ", "  ")
    for number, (prompts, seen) in enumerate(((mixed, 5), (held[12:20], 0))):
        asked = write_jsonl(tmp_path / f"asked{number}.jsonl", prompts)
        words = ["eval", str(world.policy), "--prompts", str(asked), "--max_new_tokens", "4"]
        capsys.readouterr()
        main([*words, "--model", str(output), "--output", str(tmp_path / f"ev{number}"), "--format", "json"])
        out, err = capsys.readouterr()
        assert json.loads(out)["prompts_seen_in_training"] == seen
        assert (f"{seen} of {len(prompts)} prompts were seen in training" in err) == bool(seen)
    main([*words, "--model", str(world.model), "--output", str(tmp_path / "base")])
    assert json.loads((tmp_path / "base" / "verdict.json").read_text())["prompts_seen_in_training"] is None
    shown = ["--system", f"A={tmp_path / 'ev0'}", "--system", f"B={tmp_path / 'ev1'}", "--run", str(output)]
    assert main(["report", str(world.policy), *shown, "--output", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "A: 5 of 10 prompts were seen in training" in page
    assert "B: 0 of" not in page
    assert "Kept checkpoint" in page
    # the simple form: the run with its evaluation beside it, under the policy that it keeps, and its model card
    asked = ["--num_prompts", "8", "--output", f"{output}-eval", "--card"]
    assert "Not verified yet" in (output / "README.md").read_text(encoding="utf-8")
    main([*words, "--model", str(output), *asked])
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "| kind | 8 |" in card
    assert "were seen in training" not in card
    main(
        [
            *words[:2],
            "--prompts",
            str(tmp_path / "asked0.jsonl"),
            *words[4:],
            "--model",
            str(output),
            "--card",
        ]
    )
    assert "5 of 10 prompts were seen in training" in (output / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    simple = str(tmp_path / "simple.html")
    assert main(["report", str(tmp_path / "ev0"), str(output), "--output", simple, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["systems"]
    assert [system["label"] for system in found] == ["ev0", "model"]
    assert [system["clauses"][0]["n"] for system in found] == [10, 8]
    page = Path(simple).read_text(encoding="utf-8")
    for part in ("Dual variable", "Scores before and after", "constraintc train", "constraintc eval"):
        assert part in page
    assert main(["report", str(tmp_path / "none"), "--output", simple]) == 2
    assert "there is no" in capsys.readouterr().err
    assert main([*words, "--model", str(world.model), "--card"]) == 2
    assert "not the output of `constraintc train`" in capsys.readouterr().err


def test_the_loss_on_rows_is_the_models_own(judge: Any, world: World, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    content = list(language.rows(6, 7, language.START, "kitchen"))
    rows = write_jsonl(tmp_path / "rows.jsonl", content)
    _, found, _ = judge("kind: toxicity < 0.9 for domain=chat\n", "--rows", f"named={rows}")
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(world.model),
        AutoTokenizer.from_pretrained(world.model),
    )
    total, count = 0.0, 0
    for row in content:
        prompt, reply = tokenizer(row["prompt"])["input_ids"], [*tokenizer(row["completion"])["input_ids"], 1]
        with torch.no_grad():
            laws = model(torch.tensor([prompt + reply])).logits[0].log_softmax(-1)
        total -= sum(float(laws[len(prompt) - 1 + i, token]) for i, token in enumerate(reply))
        count += len(reply)
    assert found["losses"] == {"named": pytest.approx(total / count, rel=1e-4)}


def test_json_is_alone_on_stdout(world: World, capsys: Captured, tmp_path: Path) -> None:
    words = ["eval", str(world.policy), "--model", str(world.model), "--prompts", str(world.prompts)]
    words += ["--max_new_tokens", "8", "--num_prompts", "12"]
    capsys.readouterr()
    assert main([*words, "--format", "json", "--output", str(tmp_path / "ev")]) in (0, 1)
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["clauses"][0]["n"] == 12
    assert found == json.loads((tmp_path / "ev" / "verdict.json").read_text())
    assert "wrote" in err
    page = tmp_path / "report.html"
    shown = [
        "report",
        str(world.policy),
        "--system",
        f"before={tmp_path / 'ev'}",
        "--system",
        str(tmp_path / "ev"),
    ]
    assert main([*shown, "--output", str(page), "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["systems"][0]["label"] == "before"
    assert report["systems"][0]["clauses"][0]["verdict"] == found["clauses"][0]["verdict"]
    assert "<html" in page.read_text()
    assert main([*shown, "--output", str(page)]) == 0
    assert "before" in capsys.readouterr().out


def test_a_report_over_nothing(world: World, capsys: Captured, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    words = ["report", str(world.policy), "--system", f"x={tmp_path}/none", "--output", str(page)]
    assert main(words) == 2
    assert "constraintc eval" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--samples", "0"],
        ["--num_prompts", "0"],
        ["--temperature", "-1"],
        ["--temperature", "nan"],
        ["--temperature", "inf"],
        ["--top_p", "0"],
        ["--batch_size", "0"],
    ],
)
def test_wrong_flags(world: World, capsys: Captured, flags: list[str]) -> None:
    words = ["eval", str(world.policy), "--model", str(world.model), "--prompts", str(world.prompts)]
    assert main([*words, *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "expected" in err


def test_an_evaluation_is_not_replaced_unless_asked_for(
    copied_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(copied_world.policy), "--model", str(copied_world.model), "--prompts",
             str(copied_world.prompts), "--max_new_tokens", "4", "--num_prompts", "4", "--quiet"]  # fmt: skip
    output = ["--output", str(tmp_path / "ev")]
    main([*words, *output])
    before = (tmp_path / "ev" / "verdict.json").read_bytes()
    capsys.readouterr()
    assert main([*words, *output, "--seed", "1"]) == 2
    assert "holds an evaluation" in capsys.readouterr().err
    assert (tmp_path / "ev" / "verdict.json").read_bytes() == before
    other = tmp_path / "other.policy"
    other.write_text(copied_world.policy.read_text().replace("0.1", "0.2"))
    assert (
        main(["report", str(other), "--system", f"A={tmp_path / 'ev'}", "--output", str(tmp_path / "p.html")])
        == 2
    )
    assert "was judged under another policy" in capsys.readouterr().err
