"""Tag values that no prompt has: refused or warned of, with how the prompts write them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from constraintc.exit_codes import ExitCode
from constraintc.main import main
from constraintlang.source import SourceFile
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.grouping import check_scopes

TRUE, FALSE = {"urgent": "True"}, {"urgent": "False"}


def check(text: str, tags: list[dict[str, object]]) -> None:
    check_scopes(compile_source(SourceFile(text)).ir, tags)


@pytest.mark.parametrize(
    ("domain", "tags", "has", "help"),
    [
        ("urgent=true", [FALSE, TRUE], "have `urgent` False, True", "write `urgent=True` in the policy"),
        ("urgent=maybe", [FALSE, TRUE], "have `urgent` False, True", "correct the policy"),
        ("urgent=true", [{"lang": "en"}], "have no `urgent`", "correct the policy"),
        ("domain=Chat", [{"domain": "chat"}], "have the domains chat", "write `domain=chat` in the policy"),
        ("domain=chat", [{}], "have no domain", "--prompts DOMAIN=FILE"),
        (
            "lang in {EN, de}",
            [{"lang": "en"}, {"lang": "En"}],
            "have `lang` En, en",
            "`lang=En` or `lang=en`",
        ),
    ],
)
def test_a_domain_without_prompts(domain: str, tags: list[dict[str, object]], has: str, help: str) -> None:
    with pytest.raises(DataError) as refused:
        check(f"always words < 9 for {domain}", tags)
    assert has in refused.value.message
    assert help in (refused.value.help or "")


@pytest.mark.parametrize(
    ("statement", "tags", "warned"),
    [
        ("always words < 9 for not urgent=true", [TRUE, FALSE], ["`urgent=True`"]),
        ("always words < 9 for not urgent=true", [{"urgent": True}, FALSE], []),
        ("always words < 9 for lang in {EN, de}", [{"lang": "en"}, {"lang": "de"}], ["`lang=en`"]),
        ("always words < 9 for lang in {fr, de}", [{"lang": "en"}, {"lang": "de"}], []),
        ("always words < 9 for lang in {en, EN} or lang=En", [{"lang": "en"}], []),
        ("P(words < 9 | lang=EN) <= P(words < 9) + 1%", [{"lang": " en"}], ['`lang=" en"`']),
    ],
)
def test_a_value_that_the_prompts_write_otherwise(
    statement: str, tags: list[dict[str, object]], warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check(statement, tags)
    assert [word in record.getMessage() for record, word in zip(caplog.records, warned, strict=True)] == [
        True for _ in warned
    ]


def test_completions_of_a_csv(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy, data = tmp_path / "a.policy", tmp_path / "a.csv"
    policy.write_text("calm: always words < 100 for not urgent=true\n")
    data.write_text("prompt,completion,urgent\nhello,hi there,True\nbye,see you,False\n")
    arguments = ["eval", str(policy), "--completions", str(data)]
    assert main(arguments) == ExitCode.OK
    assert 'no prompt has the tag `urgent="true"`, but some have `urgent=True`' in caplog.text


@pytest.mark.parametrize(
    ("statement", "message", "help"),
    [
        ("P(words > 9 | topic=c) < 90% per lang", "domain of `m` (topic=c); the prompts have `topic` a, b", "correct"),
        ("P(words > 9 | topic=A) < 90% per lang", "domain of `m` (topic=A); the prompts have", "`topic=a`"),
        ("P(words > 9) < 90% for topic=c per lang", "domain of `m` (topic=c); the prompts have", "correct"),
        ("P(words > 9 | topic=a) < 90% per town", "`m` is judged per `town`", "columns"),
        (
            "P(words > 9 | topic=c) <= P(words > 9 | topic=a)",
            "domain of a statistic of `m` (topic=c); the prompts have `topic` a, b",
            "correct",
        ),
        (
            "P(words > 9 | topic=A) <= P(words > 9) for lang=en",
            "domain of a statistic of `m` (lang=en and topic=A)",
            "`topic=a`",
        ),
    ],
)  # fmt: skip
def test_a_condition_of_a_statistic_without_prompts(
    statement: str, message: str, help: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, data = tmp_path / "a.policy", tmp_path / "a.csv"
    policy.write_text(f"m: {statement}\n")
    rows = [f"p{i},hi there,{('en', 'de')[i % 2]},{('a', 'b')[i // 2 % 2]}" for i in range(8)]
    data.write_text("\n".join(["prompt,completion,lang,topic", *rows, ""]))
    assert main(["eval", str(policy), "--completions", str(data)]) == ExitCode.USAGE
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert help in said.partition("help:")[2]
