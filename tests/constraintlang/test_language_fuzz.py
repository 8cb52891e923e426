"""Ten thousand broken policies: typed errors only, findings inside the file, text and tree one thing.

``benchmarks/language/fuzz.py`` runs the same on as many inputs as one likes.
"""

import pytest
from policy_mutations import MUTATIONS, bad_policies, fuzz_input, good_policies
from policy_oracle import TooSlow, judge, time_limit

from constraintlang.fixes import Fix
from constraintlang.source import Span

SEED, CHUNK = 20_000, 1_000


@pytest.mark.parametrize("chunk", range(10))
def test_fuzz(chunk):
    endings, codes = set(), set()
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        content = fuzz_input(SEED, index)
        try:
            verdict = judge(content)
        except Exception as error:
            raise AssertionError(f"input {index} of seed {SEED}: {content!r}") from error
        endings.add(verdict.ending)
        codes |= verdict.codes
    # The inputs reach every stage, or the test would say little.
    assert endings == {"unreadable", "rejected", "accepted"}
    assert len(codes) > 30


def test_inputs_are_the_same_each_time():
    assert [fuzz_input(3, i) for i in range(50)] == [fuzz_input(3, i) for i in range(50)]
    assert fuzz_input(3, 1) != fuzz_input(4, 1)


def test_there_is_much_to_start_from():
    assert len(good_policies()) > 80
    assert len(bad_policies()) > 250
    assert len(MUTATIONS) > 12


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("constraintlang.parser.explain", lambda situation: 1 / 0),
        ("constraintlang.printer._quoted", lambda text: f'"{text}"'),
        ("constraintlang.printer.format_number", lambda value, percent=False: "1"),
        ("constraintlang.layout.span_of", lambda token: Span(token.start_pos, token.end_pos + 99)),
        ("constraintlang.operator_mistakes.replacing", lambda span, text, kind="safe": Fix(())),
        ("constraintlang_compiler.front.check_constant_conditions", lambda policy, lowered: []),
    ],
)
def test_a_planted_bug_is_found(name, broken, monkeypatch):
    monkeypatch.setattr(name, broken)
    failed = 0
    for index in range(3_000):
        try:
            judge(fuzz_input(SEED, index))
        except Exception:
            failed += 1
            break
    assert failed


def test_the_time_limit_stops_what_does_not_end():
    with pytest.raises(TooSlow), time_limit(0.05):
        while True:
            pass
