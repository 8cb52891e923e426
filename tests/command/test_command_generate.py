"""``constraintc generate``: replies, their judgement, and rejection that never lets a violation through unsaid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import World

from constraintc.main import main
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
    assert len({record["completion"] for record in records}) > 3


def test_replies_are_judged(generate: Any, world: World) -> None:
    code, records, _ = generate("--prompts", str(world.prompts), "--policy", str(world.policy))
    assert code == 0  # judging alone is no failure
    assert len(records) == 40
    for record in records:
        assert record["scores"]["toxicity"] == pytest.approx(language.toxicity(record["completion"]))
        assert record["violates"] == (not language.complies(record["completion"]))
        assert record["violated"] == (["kind"] if record["violates"] else [])
    assert 5 < sum(record["violates"] for record in records) < 35


def test_rejection_prints_no_violation(generate: Any, world: World) -> None:
    for seed in ("1", "2", "3"):
        flags = ["--prompts", str(world.prompts), "--policy", str(world.policy), "--reject", "--tries", "40"]
        code, records, _ = generate(*flags, "--seed", seed)
        assert code == 0
        assert len(records) == 40
        assert all(language.complies(record["completion"]) for record in records)
        assert max(record["tries"] for record in records) > 1


def test_rejection_that_runs_out_says_so(generate: Any, world: World) -> None:
    code, records, _ = generate(
        "--prompts", str(world.prompts), "--policy", str(world.policy), "--reject", "--tries", "1"
    )
    assert code == 1
    assert any(record["violates"] for record in records)
    for record in records:
        assert record["violates"] == (not language.complies(record["completion"]))


def test_people_see_the_mark(world: World, capsys: Captured) -> None:
    words = ["generate", "--model", str(world.model), "--max_new_tokens", "10", "--policy", str(world.policy)]
    assert main([*words, "--prompts", str(world.prompts)]) == 0
    out = capsys.readouterr().out
    assert out.count("[violates]") + out.count("[obeys]") == 40
    assert "[violates]" in out


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
        (["--prompt", "a", "--tries", "0"], "--tries"),
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
