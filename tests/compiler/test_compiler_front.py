"""Checking and lowering together: what only the compiler finds, and what may not slip through."""

from __future__ import annotations

from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from work_count import counted

from constraintlang import SourceFile
from constraintlang_compiler.canonical import canonical_bytes
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.pipeline import compile_source

PATTERN = 'attribute ssn: flag {{ backend = regex(re"{}") }}\nnot ssn'
LETS = "let small = 1e-99\nlet half = small / 2\ntoxicity < half"


def errors(text: str) -> list[tuple[str, str]]:
    source = SourceFile(text)
    return [(d.code, source.extract(d.span)) for d in check_and_lower(source).diagnostics if d.is_error]


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        (r"(\w+) \1", "backtracking"),
        (r"(?=.*\d).{8,}", "backtracking"),
        (r"(?<!not )happy", "backtracking"),
        (r"(?P<a>x)(?P=a)", "backtracking"),
        (r"a*+b", "backtracking"),
        (r"(?>a|b)", "backtracking"),
        (r"((a{1,100}){1,100}){1,100}", "1000 times"),
        (r"a{5000}", "1000 times"),
        (r"[0-9", "missing ]"),
        (r"(a", "missing )"),
        (r"(a+)+$", None),  # slow with backtracking, linear here
        (r"\b\d{3}-\d{2}-\d{4}\b", None),
        (r"(?i)häme|\\1", None),
    ],
)
def test_patterns_are_tried_on_the_engine_that_runs_them(pattern: str, refused: str | None) -> None:
    source = SourceFile(PATTERN.format(pattern))
    found = [d for d in check_and_lower(source).diagnostics if d.code == "PC122"]
    assert [d.code for d in found] == ([] if refused is None else ["PC122"])
    if refused is not None:
        assert refused in found[0].message
        assert source.extract(found[0].span) == f're"{pattern}"'


def test_patterns_of_imported_attributes_are_tried(tmp_path: Path) -> None:
    (tmp_path / "ids.policy").write_text('attribute ssn: flag { backend = regex(re"(?=a)") }\n')
    source = SourceFile('import "ids.policy" as ids\nnot ids.ssn\n', "main.policy", tmp_path)
    front = check_and_lower(source)
    (found,) = [d for d in front.diagnostics if d.is_error]
    assert (found.code, found.source.name if found.source else None) == ("PC122", "ids.policy")
    assert found.source is not None
    assert found.source.extract(found.span) == 're"(?=a)"'
    assert front.lowered is None


def test_a_bad_pattern_is_found_beside_other_errors_and_where_nothing_uses_it() -> None:
    text = 'attribute a: flag { backend = regex(re"(") }\ntoxcity < 0.1'
    assert [code for code, _ in errors(text)] == ["PC122", "PC101"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Found by the fuzz: lowered to `true` or `false`, which no policy can say.
        ("toxicity < 1 < 0.1 + 0.05", [("PC226", "toxicity < 1 < 0.1 + 0.05")]),
        ("1 < 0.5 < toxicity", [("PC226", "1 < 0.5 < toxicity")]),
        ("toxicity < 0.1 or true", [("PC226", "toxicity < 0.1 or true")]),
        ("P(toxicity < 0.5 and false) < 1%", [("PC226", "P(toxicity < 0.5 and false) < 1%")]),
        (
            "P(toxicity > 0.5 > 0.6) < 2 * P(toxicity > 0.1)",
            [("PC226", "P(toxicity > 0.5 > 0.6) < 2 * P(toxicity > 0.1)")],
        ),
        (
            "P(words > 9 or true) < 1 or mean(toxicity) < 0.1",
            [("PC226", "P(words > 9 or true) < 1 or mean(toxicity) < 0.1")],
        ),
        # Numbers that are short enough in the policy and too long in its clauses.
        (LETS, [("PC223", "small / 2")]),
        ("2 * mean(toxicity) < 1e-99", [("PC010", "2 * mean(toxicity) < 1e-99")]),
        ("toxicity * 1e-60 * 1e-60 < 1", [("PC010", "toxicity * 1e-60 * 1e-60 < 1")]),
        ("toxicity < 0.1 priority 99999999999999999999", [("PC209", "priority 99999999999999999999")]),
    ],
)
def test_found_by_the_fuzz(text: str, expected: list[tuple[str, str]]) -> None:
    assert errors(text) == expected


@pytest.mark.parametrize("value", ["test", "domain", "a b", "1.50", 'say "x"', "tab\\there", "true", "ß"])
def test_the_canonical_text_quotes_the_values_of_tags(value: str) -> None:
    escaped = value.replace('"', '\\"')
    policy = compile_source(
        SourceFile(f'toxicity < 0.1 for split="{escaped}" and not (a in {{x, "{escaped}"}} or b=1)')
    )
    again = compile_source(SourceFile(canonical_policy(policy.ir)))
    assert again.semantic_hash == policy.semantic_hash


def test_the_number_of_clauses_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constraintlang_compiler.lower.MAX_CLAUSES", 4)
    tags = "tag lang in {en, de}\n"
    assert errors(tags + "mean(toxicity) < 0.5 per lang\nmean(toxicity) < 0.4 per lang\n") == []
    text = tags + "".join(f"mean(toxicity) < 0.{i} per lang\n" for i in range(1, 6))
    assert errors(text) == [("PC010", "mean(toxicity) < 0.3 per lang")]


def test_the_number_of_imported_names_is_limited(tmp_path: Path) -> None:
    (tmp_path / "big.policy").write_text("".join(f"let a{i} = 1\n" for i in range(2_000)))
    for num_imports, expected in ((49, []), (2_000, [("PC010", 'import "big.policy" as i49')])):
        text = "".join(f'import "big.policy" as i{i}\n' for i in range(num_imports)) + "words < 9\n"
        source = SourceFile(text, "main.policy", tmp_path)
        with counted(at_most=8_000_000):  # 2.8 million with 2,000 imports
            found = [d for d in check_and_lower(source).diagnostics if d.is_error]
        assert [(d.code, source.extract(d.span)) for d in found] == expected


plain_values = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text()
json_values: st.SearchStrategy[object] = st.deferred(
    lambda: (
        plain_values
        | st.lists(json_values, max_size=4)
        | st.dictionaries(st.text(max_size=4), json_values, max_size=4)
    )
)


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_canonical_bytes_are_those_of_the_standard(value: object) -> None:
    assert canonical_bytes(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_keys_that_code_points_and_code_units_order_differently() -> None:
    value = {"\ufb33": 1, "\U0001f600": 2}
    assert canonical_bytes(value) == rfc8785.dumps(value) == '{"\U0001f600":2,"\ufb33":1}'.encode()  # type: ignore[arg-type]
    with pytest.raises(rfc8785.IntegerDomainError):
        canonical_bytes({"a": [2**53]})
    with pytest.raises(TypeError, match="float"):
        canonical_bytes({"a": [1.0]})


def test_four_times_the_statements_take_about_four_times_the_work() -> None:
    def calls(count: int) -> int:
        text = "".join(
            f"s{i}: P(toxicity > 0.5 or words > {i}) < 1% for lang=en\nu{i}: words < {i + 9}\n"
            for i in range(count)
        )
        source = SourceFile("edition 1\n" + text)
        with counted() as work:
            assert len(compile_source(source).ir.clauses) == 2 * count
        return work.calls

    calls(10)  # what is read once
    assert calls(400) < 4.2 * calls(100)
