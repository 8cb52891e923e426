"""The unit of evidence: a prompt that stands in two domains is one for a clause that reads no domain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constraintc.exit_codes import ExitCode
from constraintc.main import main
from constraintlang import SourceFile
from constraintlang_compiler.bounds import clopper_pearson_upper
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.evidence import joined
from constraintlang_runtime.judge import units_of
from constraintlang_runtime.responses import Responses
from constraintlang_runtime.sequential import Track
from constraintlang_runtime.sequential_run import _in_random_order
from constraintlang_runtime.verification import Evidence

HEAD = 'edition 1\nattribute yell: flag { backend = regex(re"!") }\n'


def clause(statement: str) -> Clause:
    (found,) = compile_source(SourceFile(f"{HEAD}{statement}\n")).ir.clauses
    return found


def replies(*rows: tuple[int, str, str]) -> Responses:
    """Responses of (number, prompt, domain), two to each number where it stands twice."""
    numbers = [number for number, _, _ in rows]
    return Responses(
        numbers=numbers,
        sizes=[numbers.count(number) for number in dict.fromkeys(numbers)],
        prompts=[prompt for _, prompt, _ in rows],
        completions=["x"] * len(rows),
        tags=[{"domain": domain} for _, _, domain in rows],
    )


@pytest.mark.parametrize(
    ("statement", "units"),
    [
        ("P(yell) < 5%", [[0, 3], [1], [2], [4]]),
        ("always not yell", [[0, 3], [1], [2], [4]]),
        ("P(yell) < 5% for domain=chat", [[0], [1]]),
        ("P(yell) < 5% for domain in {chat, qa}", [[0, 3], [1], [2], [4]]),
        ("quantile(words, 0.9) < 5", [[0], [1], [2], [4]]),
        ("P(yell | domain=chat) <= P(yell | domain=qa)", [[0], [1], [2], [3], [4]]),
    ],
)
def test_what_one_clause_does_not_tell_apart_is_one_prompt(statement: str, units: list[list[int]]) -> None:
    found = replies((0, "hi", "chat"), (1, "", "chat"), (2, "", "qa"), (3, "hi", "qa"), (4, "bye", "qa"))
    assert units_of(clause(statement), found) == units


def test_the_same_prompts_in_two_domains_make_no_bound_tighter(tmp_path: Path) -> None:
    policy = tmp_path / "a.policy"
    policy.write_text(
        f"{HEAD}all: P(yell) < 9%\nnever: always not yell\nchat: P(yell) < 9% for domain=chat\n"
    )
    arguments = ["eval", str(policy), "--output", str(tmp_path / "out")]
    for domain in ("chat", "qa"):
        rows = [
            {"prompt": f"p{i}", "completion": "hi!" if domain == "qa" and i == 3 else "hi", "domain": domain}
            for i in range(60)
        ]
        data = tmp_path / f"{domain}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        arguments += ["--completions", str(data)]
    assert main(arguments) == ExitCode.VIOLATED
    verdicts = json.loads((tmp_path / "out" / "verdict.json").read_text())["clauses"]
    found: dict[str, Any] = {verdict["clause"]: verdict for verdict in verdicts}
    assert [found[name]["n"] for name in ("all", "never", "chat")] == [60, 60, 60]
    assert found["all"]["estimate"] == pytest.approx(1 / 120)  # both replies of the prompt count
    assert found["never"]["verdict"] == "violated"
    assert found["chat"]["upper"] == pytest.approx(clopper_pearson_upper(0, 60, 0.05 / 3))
    records = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert len({r["prompt_number"] for r in records if r["clause"] == "all"}) == 60


def test_a_random_order_keeps_equal_prompts_together() -> None:
    prompts = ["a", "b", "a", "", "c", "", "b", "a"]
    order = _in_random_order(prompts, 3, None)
    assert sorted(map(tuple, order)) == [(0, 2, 7), (1, 6), (3,), (4,), (5,)]
    assert sum(map(len, _in_random_order(prompts, 3, 4))) == 4
    distinct = [str(i) for i in range(50)]
    taken = [distinct[i] for unit in _in_random_order(distinct, 1, 20) for i in unit]
    assert [distinct[::-1][i] for unit in _in_random_order(distinct[::-1], 1, 20) for i in unit] == taken
    assert [distinct[i] for unit in _in_random_order(distinct, 2, 20) for i in unit] != taken


def test_prompts_with_different_numbers_of_replies_are_judged_as_they_come() -> None:
    parts = [
        Evidence(statistic_per_prompt=[np.array([0.0, 1.0]), np.array([0.0])], single_sample=False),
        Evidence(statistic_per_prompt=np.zeros(30), single_sample=True),
        Evidence(statistic_per_prompt=np.zeros((30, 2)), single_sample=False),
    ]
    one, never = clause("P(yell) <= 30%"), clause("always not yell")
    track, hard = Track(one, 0.05), Track(never, 0.05)
    for part in parts:
        track.add(part)
        hard.add(part)
    assert track.verdict().n == 62
    assert track.verdict().estimate == pytest.approx(0.5 / 62)
    assert track.verdict().verdict == "holds"
    assert hard.decided
    assert hard.verdict().verdict == "violated"
    whole = joined(parts, clause=one)
    assert isinstance(whole, Evidence)
    assert len(whole.statistic_per_prompt) == 62
    assert not whole.single_sample
