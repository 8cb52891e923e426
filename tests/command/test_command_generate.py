"""``constraintc generate``: replies, their judgement, and rejection that never lets a violation through unsaid."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import World

from constraintc.commands.generate import _print_reply
from constraintc.main import main
from constraintlang_runtime import generate_run
from constraintlang_runtime.demo import language

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def generate(world: World, capsys: Captured) -> Any:
    def run(*flags: str) -> tuple[int, list[dict[str, Any]], str]:
        capsys.readouterr()
        code = main(
            ["generate", "--model", str(world.model), "--max_new_tokens", "10", "--format", "json", *flags]
        )
        out, err = capsys.readouterr()
        return int(code), [json.loads(line) for line in out.splitlines()], err

    return run


def test_replies_without_a_policy(generate: Any) -> None:
    code, records, _ = generate("--prompt", "anna asks", "--prompt", "ben asks", "--samples", "3")
    assert code == 0
    assert [record["prompt"] for record in records] == ["anna asks"] * 3 + ["ben asks"] * 3
    assert {record["violates"] for record in records} == {None}
    assert {(record["status"], record["value"]) for record in records} == {("unjudged", None)}
    assert len({record["completion"] for record in records}) > 3


def test_replies_are_judged(generate: Any, world: World) -> None:
    code, records, _ = generate("--prompts", str(world.prompts), "--policy", str(world.policy))
    assert code == 0  # judging alone is no failure
    assert len(records) == 40
    for record in records:
        assert record["scores"]["toxicity"] == pytest.approx(language.toxicity(record["completion"]))
        assert record["violates"] == (not language.complies(record["completion"]))
        assert record["violated"] == (["kind"] if record["violates"] else [])
        assert record["status"] == ("violates" if record["violates"] else "accepted")
        assert (record["draws"], record["value"]) == (1, 0.0 if record["violates"] else 1.0)
    assert 5 < sum(record["violates"] for record in records) < 35


@pytest.mark.parametrize("flags", [("--reject", "--tries"), ("--decoding=rejection", "--max_draws")])
def test_rejection_prints_no_violation(generate: Any, world: World, flags: tuple[str, str]) -> None:
    for seed in ("1", "2"):
        asked = ["--prompts", str(world.prompts), "--policy", str(world.policy), flags[0], flags[1], "40"]
        code, records, err = generate(*asked, "--seed", seed)
        assert code == 0
        assert len(records) == 40
        assert all(language.complies(record["completion"]) for record in records)
        assert {record["status"] for record in records} == {"accepted"}
        assert max(record["draws"] for record in records) > 1
        draws = sum(record["draws"] for record in records)
        first = sum(record["draws"] == 1 for record in records) / 40
        assert f"40 of 40 replies obey, after {draws} draws from the model" in err
        assert f"acceptance rate {first:.1%} [" in err
        cost = sum(sum(1 / k for k in range(1, record["draws"])) for record in records) / 40
        assert f"KL(filtered || model) = -log AR = {cost:.3f} [" in err


def test_rejection_that_runs_out_says_so(generate: Any, world: World) -> None:
    flags = ["--prompts", str(world.prompts), "--policy", str(world.policy), "--decoding", "rejection"]
    code, records, err = generate(*flags, "--max_draws", "1")
    assert code == 1
    rejected = [record for record in records if record["status"] == "rejected"]
    assert 0 < len(rejected) < 40
    assert all(record["completion"] is None and record["violates"] for record in rejected)
    assert "more in truth: some replies were not found" in err
    code, kept, _ = generate(*flags, "--max_draws", "1", "--on_reject", "keep")
    assert code == 1
    for before, after in zip(records, kept, strict=True):
        assert after["status"] == before["status"]
        assert language.complies(after["completion"]) == (after["status"] == "accepted")


def test_of_several_draws_the_least_violating_is_kept(generate: Any, copied_world: World) -> None:
    """Two clauses, one that no reply meets: the draw that violates that one alone is kept."""
    text = copied_world.policy.read_text() + "silent: words < 1 for domain=chat\n"
    copied_world.policy.write_text(text)
    flags = ["--prompts", str(copied_world.prompts), "--policy", str(copied_world.policy)]
    code, records, _ = generate(*flags, "--decoding", "rejection", "--max_draws", "12", "--on_reject", "keep")
    assert code == 1
    full = [record for record in records if record["completion"]]
    assert {record["draws"] for record in full} == {12}
    assert sum(record["violated"] == ["silent"] for record in full) > 0.9 * len(full)


GUIDE = [
    "--guide_rounds",
    "2",
    "--anchor_samples",
    "800",
    "--control_samples",
    "200",
    "--auxiliary_steps",
    "120",
]
GUIDE += ["--auxiliary_rank", "8", "--auxiliary_width", "16"]


def test_guided_decoding_says_what_it_does_not_forbid(
    copied_world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fitting(Exception):
        """Stands for the fit of the guide."""

    def fit(*_: Any) -> None:
        raise Fitting

    monkeypatch.setattr(generate_run, "_guide", fit)
    text = copied_world.policy.read_text()
    for policy in (text, text.replace("kind: ", "kind: always ")):
        copied_world.policy.write_text(policy)
        with contextlib.suppress(Fitting):
            main(["generate", "--model", str(copied_world.model), "--prompts", f"chat={copied_world.prompts}",
                  "--policy", str(copied_world.policy), "--decoding", "guided"])  # fmt: skip
        said = "guided decoding masks nothing: it makes violations of `kind` rare but forbids none"
        assert (said in " ".join(capsys.readouterr().err.split())) == ("always" in policy)


def test_guided_replies_obey_more_often_and_the_guide_is_kept(
    generate: Any, copied_world: World, tmp_path: Path
) -> None:
    text = copied_world.policy.read_text().replace("domain=chat", "domain=chat under tolerance=20%")
    copied_world.policy.write_text(text)
    chat = f"chat={copied_world.prompts}"
    asked = ["--prompts", chat, "--policy", str(copied_world.policy), "--samples", "4"]
    guided = [*asked, "--decoding", "guided", "--guide", str(tmp_path / "guide"), *GUIDE]
    code, records, err = generate(*guided)
    assert code == 0
    assert "fitting a guide to samples of" in err
    plain = generate(*asked)[1]

    def rate(of: list[dict[str, Any]]) -> float:
        return sum(record["violates"] for record in of) / len(of)

    assert rate(plain) > 0.35
    assert rate(records) < 0.6 * rate(plain)
    values = {record["status"]: record["value"] for record in records}
    assert values["accepted"] == 1.0
    assert 0 < values["violates"] < 1  # exp(-dual)
    code, again, err = generate(*guided)
    assert (code, again) == (0, records)
    assert "fitting" not in err
    # proposals of the guided law: fewer draws, and what is lost is said
    code, found, err = generate(*asked, "--decoding", "rejection", "--guide", str(tmp_path / "guide"))
    assert code == 0
    assert all(language.complies(record["completion"]) for record in found)
    plain_draws = sum(r["draws"] for r in generate(*asked, "--decoding", "rejection")[1])
    assert sum(record["draws"] for record in found) < 0.8 * plain_draws
    assert "draws from the guided law" in err
    assert "KL(g || guided) = KL(g || g') - log AR" in err
    code, found, _ = generate(
        *asked[:-2], "--decoding", "best_first", "--guide", str(tmp_path / "guide"), "--search_budget", "60"
    )
    assert code == 0
    assert len(found) == 40
    assert all(language.complies(record["completion"]) for record in found)
    assert all(2 <= record["draws"] <= 60 for record in found)
    # of another model or policy it is refused
    copied_world.policy.write_text(text.replace("0.1", "0.2"))
    code, _, err = generate(*guided)
    assert code == 2
    assert "was fitted for another policy" in err


def test_masks_by_name(generate: Any, copied_world: World) -> None:
    text = copied_world.policy.read_text()
    word = max(language.WEIGHTS, key=lambda w: language.WEIGHTS[w])
    text += (
        f'attribute worst: flag {{ backend = regex(re"{word}") }}\nnone: always not worst for domain=chat\n'
    )
    copied_world.policy.write_text(text)
    asked = [
        "--prompts",
        f"chat={copied_world.prompts}",
        "--policy",
        str(copied_world.policy),
        "--samples",
        "4",
    ]
    assert any("none" in record["violated"] for record in generate(*asked)[1])
    code, records, _ = generate(*asked, "--decoding", "masked", "--clause", "none")
    assert code == 0
    assert not any("none" in record["violated"] for record in records)
    assert any("kind" in record["violated"] for record in records)
    code, _, err = generate(*asked, "--decoding", "masked", "--clause", "nothing")
    assert (code, "no clause `nothing`" in err) == (2, True)
    (copied_world.policy.parent / "other.txt").write_text(f"{word}\n")
    other = ["--scorer", f"worst={copied_world.policy.parent / 'other.txt'}"]
    code, _, err = generate(*asked, "--decoding", "masked", "--clause", "none", *other)
    assert (code, "`worst` is measured by another scorer than the policy's" in " ".join(err.split())) == (
        2,
        True,
    )


def test_people_see_the_mark(world: World, capsys: Captured) -> None:
    words = ["generate", "--model", str(world.model), "--max_new_tokens", "10", "--policy", str(world.policy)]
    assert main([*words, "--prompts", str(world.prompts)]) == 0
    out = capsys.readouterr().out
    assert out.count("[violates]") + out.count("[obeys]") == 40
    assert "[violates]" in out


def test_people_see_no_escape_sequence(capsys: Captured) -> None:
    reply = SimpleNamespace(prompt="a\x1b[2Jb", completion="c\nd\x1b[2J\u202e", status="accepted", draws=1)
    _print_reply(reply)  # type: ignore[arg-type]
    assert capsys.readouterr().out == "> a\ufffd[2Jb\n[obeys] c\nd\ufffd[2J\ufffd\n\n"


def test_the_domain_of_a_prompt(generate: Any, world: World) -> None:
    """A reply that no clause judges must not be shown as one that obeys."""
    judged = ["--policy", str(world.policy), "--prompt", "anna asks"]
    assert generate(*judged, "--domain", "chat")[1][0]["violates"] is not None
    for flags in ([], ["--domain", "kitchen"], ["--reject"]):
        code, records, err = generate(*judged, *flags)
        assert (code, records) == (2, [])
        assert "no prompt lies in a domain of the policy (chat)" in err
        assert "--domain NAME" in err
    _, records, _ = generate(*judged, "--prompts", f"chat={world.prompts}")
    assert records[0]["violates"] is None
    assert all(record["violates"] is not None for record in records[1:])


def test_a_policy_that_judges_no_single_reply(generate: Any, copied_world: World) -> None:
    text = copied_world.policy.read_text().replace("toxicity < 0.1 for", "mean(toxicity) < 0.1 for")
    copied_world.policy.write_text(text)
    code, _, err = generate(
        "--policy", str(copied_world.policy), "--prompt", "a", "--domain", "chat", "--reject"
    )
    assert code == 2
    assert "judges a single reply" in err


def test_the_seed_and_greedy_replies(generate: Any) -> None:
    prompts = ["--prompt", "anna asks", "--samples", "4"]
    assert generate(*prompts, "--seed", "5")[1] == generate(*prompts, "--seed", "5")[1]
    assert generate(*prompts, "--seed", "5")[1] != generate(*prompts, "--seed", "6")[1]
    greedy = {record["completion"] for record in generate(*prompts, "--temperature", "0")[1]}
    assert len(greedy) == 1


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ([], "there is no prompt"),
        (["--prompt", "a", "--reject"], "--policy FILE"),
        (["--prompt", "a", "--tries", "0"], "max_draws"),
        (["--prompt", "a", "--decoding", "guided"], "--policy FILE"),
        (["--prompt", "a", "--decoding", "masked"], "--policy FILE"),
        (["--prompt", "a", "--reject", "--decoding", "masked"], "contradict"),
        (["--prompt", "a", "--samples", "0"], "samples"),
        (["--prompt", "a", "--nonsense"], "unknown flag `--nonsense`"),
        (["--prompt", "a", "--anchor_samples", "3"], "no part in --decoding plain"),
        (["--prompt", "a", "--anchor_sample", "3"], "`--anchor_samples`"),
        (["--prompt", ""], "empty prompt"),
        (["--prompts", "none.jsonl"], "none.jsonl"),
        (["--prompt", "a", "--temperature", "-1"], "temperature"),
        (["--prompt", "a", "--policy", "none.policy"], "none.policy"),
    ],
)
def test_wrong_flags(generate: Any, flags: list[str], part: str) -> None:
    code, records, err = generate(*flags)
    assert (code, records) == (2, [])
    assert part in err
    assert "internal error" not in err


def test_a_missing_model(capsys: Captured, tmp_path: Path) -> None:
    assert main(["generate", "--model", str(tmp_path / "none"), "--prompt", "a"]) == 2
    assert "check the path" in capsys.readouterr().err
