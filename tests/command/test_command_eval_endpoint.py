"""``constraintc eval --endpoint``: a served model is asked as it should be, nothing is asked twice, nothing is lost."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_judge import (
    FakeServer,
    as_judge,
    drops,
    fails,
    first,
    hangs,
    limits,
    on,
    reply_of,
    says,
    send,
    serving,
    truncates,
)
from scipy.stats import beta
from tiny_models import read_jsonl, write_jsonl

from constraintc.main import main
from constraintlang_runtime.samplers.endpoint import FILE, KEYS
from constraintlang_runtime.scorers import calling

Captured = pytest.CaptureFixture[str]
HEAD = "edition 1\nattribute size: int { backend = length(words) }\n"
PROMPTS = [{"prompt": f"say {i}"} for i in range(30)]


def speaks(text: str, body: dict[str, Any]) -> str:
    """Three words where the prompt's number is a multiple of ten, else one."""
    return "one two three" if text.endswith("0") else "one"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setattr(calling, "FIRST_PAUSE", 0.002)
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with serving(FakeServer(speaks)) as found:
        yield found


@pytest.fixture
def evaluate(server: FakeServer, tmp_path: Path) -> Any:
    """Run the command; (exit code, verdict.json or None)."""

    def run(*flags: str, policy: str = "short: size < 3\n", rows: Any = PROMPTS) -> tuple[int, Any]:
        (tmp_path / "p.policy").write_text(HEAD + policy)
        data = write_jsonl(tmp_path / "prompts.jsonl", rows)
        verdict = tmp_path / "out" / "verdict.json"
        verdict.unlink(missing_ok=True)
        code = main(
            ["eval", str(tmp_path / "p.policy"), "--endpoint", server.url, "--endpoint_model", "m", "--prompts",
             str(data), "--output", str(tmp_path / "out"), "--quiet", *flags]
        )  # fmt: skip
        return int(code), json.loads(verdict.read_text()) if verdict.exists() else None

    return run


def test_the_verdict_is_that_of_the_served_completions(
    evaluate: Any, server: FakeServer, tmp_path: Path
) -> None:
    code, found = evaluate("--seed", "5", "--temperature", "0.5", "--top_p", "0.75", "--max_new_tokens", "9")
    (clause,) = found["clauses"]
    assert (clause["n"], clause["estimate"]) == (30, pytest.approx(0.1))
    assert clause["lower"] == pytest.approx(beta.ppf(0.05, 3, 28))
    assert clause["verdict"] == "inconclusive"
    assert code == 0
    assert found["sampling"] == {
        "max_new_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.75,
        "top_k": 0,
        "stop": [],
        "seed": 5,
    }
    assert found["settings"]["endpoint_model"] == "m"
    assert sorted(server.asked) == sorted(row["prompt"] for row in PROMPTS)
    for body in server.bodies:
        assert (body["max_tokens"], body["temperature"], body["top_p"], body["n"]) == (9, 0.5, 0.75, 1)
    assert len({body["seed"] for body in server.bodies}) == 30
    kept = read_jsonl(tmp_path / "out" / FILE)
    assert [row["prompt"] for row in kept] == [row["prompt"] for row in PROMPTS]
    assert [row["completion"] for row in kept] == [speaks(row["prompt"], {}) for row in PROMPTS]


def test_the_law_is_whole_where_the_server_takes_it(
    evaluate: Any, server: FakeServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A server fills in what a request leaves out from the model's generation_config; one that refuses is named."""
    _, found = evaluate()
    assert found["left_to_the_server"] == []
    assert all(
        (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0, 1) for body in server.bodies
    )
    server.bodies.clear()
    shutil.rmtree(tmp_path / "out")

    def strict(own: FakeServer, text: str, attempt: int, handler: Any) -> bool:
        if "top_k" not in own.bodies[-1]:
            return False
        send(handler, 400, {"error": {"message": "Unrecognized request argument: top_k"}})
        return True

    server.fault = strict
    _, found = evaluate("--seed", "7", "--endpoint_rate", "200", rows=PROMPTS[:3])
    assert found["left_to_the_server"] == ["top_k", "min_p", "repetition_penalty"]
    assert "the server refuses top_k" in caplog.text
    server.bodies.clear()
    _, found = evaluate("--seed", "7", "--overwrite", rows=PROMPTS[:3])
    assert (server.bodies, found["left_to_the_server"]) == ([], ["top_k", "min_p", "repetition_penalty"])


def test_stop_texts_are_sent_and_kept_by_us_where_they_are_not(
    evaluate: Any, server: FakeServer, tmp_path: Path
) -> None:
    _, found = evaluate("--stop", "ne", "--stop", r"\n")
    assert found["sampling"]["stop"] == ["ne", "\n"]
    assert all(body["stop"] == ["ne", "\n"] for body in server.bodies)
    said = [row["completion"] for row in read_jsonl(tmp_path / "out" / FILE)]
    assert said == [speaks(row["prompt"], {}).partition("ne")[0] for row in PROMPTS]


def test_several_samples_of_a_prompt_have_their_own_seeds(evaluate: Any, server: FakeServer) -> None:
    _, found = evaluate("--samples", "4", "--num_prompts", "5")
    assert len({body["seed"] for body in server.bodies}) == len(server.bodies) == 20
    assert (found["num_prompts"], found["num_completions"]) == (5, 20)


@pytest.mark.parametrize("flags", [[], ["--chat"]])
def test_conversations_are_asked_as_chat(
    evaluate: Any, server: FakeServer, flags: list[str], tmp_path: Path
) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say 10"}]
    rows = [
        {"messages": [*turns, {"role": "assistant", "content": "an old answer"}]},
        {"prompt": [{"role": "user", "content": "say 11"}]},
        {"prompt": "say 12"},
    ]
    evaluate(*flags, rows=rows)
    by_text = {
        body["messages"][-1]["content"] if "messages" in body else body["prompt"]: body
        for body in server.bodies
    }
    assert by_text["say 10"]["messages"] == turns
    assert by_text["say 11"]["messages"] == rows[1]["prompt"]
    assert ("messages" in by_text["say 12"]) == (flags == ["--chat"])
    kept = read_jsonl(tmp_path / "out" / FILE)
    assert kept[0]["messages"] == [*turns, {"role": "assistant", "content": "one two three"}]


def test_domains_and_equal_prompts(evaluate: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    rows = [{"prompt": f"say {i % 5}", "domain": "chat" if i % 2 else "code"} for i in range(20)]
    _code, found = evaluate(policy="short: size < 3 for domain=chat\n", rows=rows)
    assert found["clauses"][0]["n"] == 5
    assert sum(server.asked.values()) == 10  # a prompt once in each domain


def test_prompts_that_no_clause_tells_apart_are_asked_once(
    evaluate: Any, server: FakeServer, tmp_path: Path
) -> None:
    """An id of each row, or a second file, must not make some prompts be answered more often than others."""
    again = write_jsonl(tmp_path / "again.jsonl", [{"prompt": "say 1", "id": 99}, {"prompt": "say 99"}])
    rows = [{"prompt": f"say {i % 20}", "id": i} for i in range(30)]
    code, found = evaluate("--prompts", str(again), policy="short: median(size) < 3\n", rows=rows)
    assert (code, found["clauses"][0]["n"], found["clauses"][0]["samples"]) == (0, 21, 1)
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize(
    ("policy", "flags", "message"),
    [
        ("attribute rude: flag\nr: P(rude) < 9%\n", [], "no scorer for the attribute `rude`"),
        ("short: size < 3\n", ["--human", "no_such.csv"], "cannot read `no_such.csv`"),
        ("short: size < 3\n", ["--audit", "other=x.txt"], "uses no attribute `other`"),
        ("short: size < 3 for domain=chat\n", [], "no prompt lies in the domain"),
        ("short: size < 3 per lang\n", [], "no prompt in its domain has `lang`"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_request(
    evaluate: Any, server: FakeServer, capsys: Captured, policy: str, flags: list[str], message: str
) -> None:
    code, _ = evaluate(*flags, policy=policy)
    assert (code, dict(server.asked)) == (2, {})
    assert message in capsys.readouterr().err


PASSING = {
    "drops": drops, "rate limit": limits, "errors": fails, "truncated": truncates, "hangs": hangs,
    "no JSON": says("<html>"), "no number": says('{"choices": [], "id": ' + 5000 * "1" + "}"),
    "no choice": says({"choices": []}),
}  # fmt: skip


def patience_with(name: str) -> str:
    """Seconds for a reply, few where one has to run out: a busy machine may take long to answer at all."""
    return "0.5" if name == "hangs" else "30"


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_changes_nothing(evaluate: Any, server: FakeServer, name: str) -> None:
    server.fault = first(2, on({"say 3", "say 20"}, PASSING[name]))
    _, found = evaluate("--endpoint_timeout", patience_with(name))
    assert (found["clauses"][0]["n"], found["clauses"][0]["estimate"]) == (30, pytest.approx(0.1))
    assert set(server.answered.values()) == {1}
    assert server.asked["say 3"] == 3


@pytest.mark.parametrize("name", PASSING)
def test_what_stays_is_no_verdict_and_the_next_run_asks_for_the_rest(
    evaluate: Any, server: FakeServer, name: str, capsys: Captured, tmp_path: Path
) -> None:
    server.fault = on({"say 3", "say 20"}, PASSING[name])
    code, found = evaluate("--endpoint_timeout", patience_with(name))
    assert (code, found) == (4, None)
    assert "2 of 30 requests have no completion" in capsys.readouterr().err
    assert len(read_jsonl(tmp_path / "out" / FILE)) == 28
    server.fault = lambda *_: False
    server.asked.clear()
    code, found = evaluate("--endpoint_timeout", patience_with(name))
    assert dict(server.asked) == {"say 3": 1, "say 20": 1}
    assert found["clauses"][0]["n"] == 30
    assert set(server.answered.values()) == {1}
    evaluate("--endpoint_timeout", patience_with(name))
    assert set(server.answered.values()) == {1}


def test_a_withheld_reply_is_an_answer_that_is_missing(
    evaluate: Any, server: FakeServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Asked again until it passes the filter, what it withholds would not be seen."""
    withheld = first(1, says({"choices": [{"text": "", "finish_reason": "content_filter"}]}))
    server.fault = on({f"say {i}" for i in range(18)}, withheld)
    policy = "short: size < 3\neach: over sentences (size < 3 until last)\n"
    code, found = evaluate("--score_cache", "off", policy=policy)
    assert (code, set(server.asked.values())) == (4, {1})  # nothing is known of the most of them
    for clause in found["clauses"]:
        assert (clause["n"], clause["unavailable"], clause["verdict"]) == (30, 18, "error")
    assert found["withheld"] == {"content_filter": 18}
    assert "withheld 18 of 30 completions (ended 18 by 'content_filter')" in caplog.text
    kept = read_jsonl(tmp_path / "out" / FILE)
    assert [row.get("endpoint_withheld") for row in kept[17:19]] == ["content_filter", None]
    assert "completion" not in kept[0]
    server.asked.clear()
    assert evaluate("--score_cache", "off", "--overwrite", policy=policy)[1]["withheld"] == {
        "content_filter": 18
    }
    assert not server.asked
    command = [
        "eval", str(tmp_path / "p.policy"), "--completions", str(tmp_path / "out" / FILE), "--score_cache", "off",
        "--output", str(tmp_path / "later"), "--quiet",
    ]  # fmt: skip
    assert main(command) == 4
    later = json.loads((tmp_path / "later" / "verdict.json").read_text())["clauses"]
    assert [(clause["n"], clause["unavailable"]) for clause in later] == [(30, 18)] * 2


def test_an_end_that_is_not_known_is_a_failure(evaluate: Any, server: FakeServer, capsys: Any) -> None:
    server.fault = says({"choices": [{"text": "", "finish_reason": "abort"}]})
    code, found = evaluate()
    assert (code, found, set(server.asked.values())) == (4, None, {1})
    assert "ended by 'abort'" in capsys.readouterr().err


def test_what_was_withheld_is_no_silence_and_can_be_scored(
    evaluate: Any, server: FakeServer, tmp_path: Path
) -> None:
    withheld = says({"choices": [{"text": "", "finish_reason": "content_filter"}]})
    server.fault = on({f"say {i}" for i in range(5)}, withheld)
    _, found = evaluate("--score_cache", "off")
    assert found["degeneracy"]["num_completions"] == 25
    assert found["degeneracy"]["empty_rate"] == 0
    assert main(["score", str(tmp_path / "p.policy"), "--data", str(tmp_path / "out" / FILE)]) in (0, 1, 4)


def test_conversations_are_withheld_whole(evaluate: Any, server: FakeServer, tmp_path: Path) -> None:
    """A call of a tool has no content; nothing is left of such replies to judge."""
    ended = {"message": {"role": "assistant", "content": None}, "finish_reason": "tool_calls"}
    server.fault = says({"choices": [ended]})
    turns = [{"role": "user", "content": "say 10"}, {"role": "assistant", "content": "an old answer"}]
    code, found = evaluate("--samples", "2", rows=[{"messages": turns}, *PROMPTS[:2]], policy="size < 3\n")
    assert (code, found["clauses"][0]["unavailable"], found["withheld"]) == (4, 3, {"tool_calls": 6})
    assert read_jsonl(tmp_path / "out" / FILE)[0]["messages"] == turns[:1]


def test_null_is_the_empty_text_of_a_reply_that_ended(
    evaluate: Any, server: FakeServer, tmp_path: Path
) -> None:
    server.fault = says({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]})
    code, found = evaluate("--chat")
    assert (code, found["clauses"][0]["unavailable"], set(server.asked.values())) == (0, 0, {1})
    assert {row["completion"] for row in read_jsonl(tmp_path / "out" / FILE)} == {""}


def test_what_templates_read_is_sent(evaluate: Any, server: FakeServer, capsys: Captured) -> None:
    turns = [{"role": "user", "content": "say 10"}]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    options = {"enable_thinking": False}
    rows = [
        {"messages": turns, "tools": tools, "chat_template_kwargs": json.dumps(options)},
        {"messages": turns},
    ]
    evaluate(rows=rows)
    sent = [(body.get("tools"), body.get("chat_template_kwargs")) for body in server.bodies]
    assert sorted(sent, key=str) == [(None, None), (tools, options)]
    assert evaluate(rows=[{"messages": turns, "tools": "look"}])[0] == 2
    assert "expected a list" in capsys.readouterr().err


def test_a_line_that_was_cut_by_a_kill_is_asked_for_again(
    evaluate: Any, server: FakeServer, tmp_path: Path
) -> None:
    evaluate()
    path = tmp_path / "out" / FILE
    path.write_bytes(path.read_bytes()[:-5])
    server.asked.clear()
    _, found = evaluate()
    assert sum(server.asked.values()) == 1
    assert found["clauses"][0]["n"] == 30


def test_completions_of_another_run_are_not_taken(
    evaluate: Any, server: FakeServer, capsys: Captured
) -> None:
    evaluate()
    for flags in (["--seed", "1"], ["--temperature", "0"], ["--endpoint_model", "n"], ["--samples", "2"]):
        assert evaluate(*flags)[0] == 2
        assert "another run" in capsys.readouterr().err
    assert evaluate(rows=PROMPTS[:-1])[0] == 2
    assert evaluate("--endpoint_rate", "1000")[0] == 0


def test_a_server_that_refuses(evaluate: Any, server: FakeServer, capsys: Captured, monkeypatch: Any) -> None:
    server.key = "right"
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    code, _ = evaluate()
    err = capsys.readouterr().err
    assert code == 4
    assert KEYS[0] in err
    assert "s3cret" not in err
    monkeypatch.setenv(KEYS[0], "right")
    assert evaluate()[0] == 0


def test_what_a_served_model_cannot_be_asked(evaluate: Any, capsys: Captured) -> None:
    for policy, names in (
        ("a: size < 3\nb: size < 3 under temperature=0\n", ["`b`", "under"]),
        ("a: over tokens (size < 3 until last)\n", ["`a`", "tokens"]),
    ):
        code, _ = evaluate(policy=policy)
        err = capsys.readouterr().err
        assert code == 2, err
        assert all(name in err for name in names), err
    for flags in (
        ["--rows", "x.jsonl"],
        ["--base", "gpt2"],
        ["--sequential"],
        ["--batch_size", "8"],
        ["--model", "m"],
        ["--completions", "c"],
    ):
        assert evaluate(*flags)[0] == 2
        assert flags[0] in capsys.readouterr().err
    assert evaluate(rows=[{"text": "no prompt"}])[0] == 2
    assert "no prompt for a served model" in capsys.readouterr().err


def test_clauses_that_texts_do_not_decide_are_named(evaluate: Any, capsys: Captured) -> None:
    _code, found = evaluate(policy="a: size < 3\nb: over tokens (size < 3 until last)\n")
    assert found["not_judged"] == [
        {"clause": "b", "reason": "it speaks of tokens, and texts have none", "strength": "require"}
    ]
    assert "`b` is not judged" in capsys.readouterr().err


def test_the_model_is_asked_for_when_it_is_not_named(
    server: FakeServer, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "p.policy").write_text(HEAD + "size < 3\n")
    data = write_jsonl(tmp_path / "prompts.jsonl", PROMPTS[:3])
    command = [
        "eval",
        str(tmp_path / "p.policy"),
        "--endpoint",
        server.url + "/v1",
        "--prompts",
        str(data),
        "--quiet",
    ]
    server.models = ["only"]
    assert main(command) in (0, 1)
    assert {body["model"] for body in server.bodies} == {"only"}
    server.models = ["one", "two"]
    assert main(command) == 2
    assert "one, two" in capsys.readouterr().err


def test_a_judge_judges_what_another_server_says(evaluate: Any, server: FakeServer, tmp_path: Path) -> None:
    """Two servers: one is sampled, the other judges; one text of the thirty has no score."""
    (tmp_path / "rubric.md").write_text("How long is it?")
    server.answer = lambda text, body: "x" * (int(text.split()[-1]) % 4) if text != "say 7" else "lost"
    policy = (
        'attribute long: score in [0, 1] lower_is_better { backend = judge("rubric.md") }\nb: long < 0.9\n'
    )
    with serving(FakeServer(as_judge)) as judge:
        judge.fault = on({"lost"}, says(reply_of("no")))
        _, found = evaluate(
            "--judge_url",
            judge.url,
            "--judge_model",
            "j",
            "--score_cache",
            str(tmp_path / "scores"),
            policy=policy,
        )
        (clause,) = [one for one in found["clauses"] if one["clause"] == "b"]
        assert (clause["n"], clause["unavailable"]) == (30, 1)
        assert sum(judge.answered.values()) == 29  # prompts differ, so each is a text of its own
        assert judge.asked["lost"] == 5
    assert math.isfinite(clause["upper"])
