"""Every state of the parser has a curated sentence, and every text in a sentence is right."""

import re
from collections import deque

import pytest
from lark.lexer import Token
from lark.parsers.lalr_analysis import Shift

from constraintlang.machine import build_machine, load_machine
from constraintlang.parser import _ItemParser, parse
from constraintlang.sentences import SENTENCES, key_of, sentence
from constraintlang.syntax_errors import MISTAKES

MACHINE = build_machine()
STATES = MACHINE.lark.parser.parser._parse_table.states
SAMPLES = {
    "NAME": "a", "INT": "1", "NUMBER": "0.5", "PERCENT": "5%", "STRING": '"x"', "REGEX": 're"x"', "CMP": "<",
    "ADD": "+", "MUL": "*", "_NL": "\n", "UNKNOWN": "$", "BAD_STRING": '"x', "EQUAL": "=", "COLON": ":", "LBRACE": "{",
    "RBRACE": "}", "COMMA": ",", "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "VBAR": "|", "DOT": ".", "AT": "@",
}  # fmt: skip
# Where a text of a sentence can stand, when it is no item by itself.
FRAMES = (
    "{}", "a < 1 {}", "a < 1 for {}", "a in {}", "tag t in {}", "attribute a: flag {}", "attribute a: {}", "P({}) < 1",
    "attribute a: flag {{ backend = {} }}", 'test "t" {{ {} }}', 'test "t" {{ given a = {} }}', "a{}1", "let x = {}",
    "a < 1 {} b < 1", "a < 1 under x{}1", "a < 1 {} domain=x", "edition {}", "{} < 1", "f(a {})", "(a < 1{}",
    "attribute a: flag {{ {} }}",
)  # fmt: skip


def test_every_state_has_a_sentence():
    assert len(STATES) > 400
    assert set(MACHINE.places) == set(STATES)
    missing = {place for place in MACHINE.places.values() if key_of(place) is None}
    assert missing == set(), "say in `sentences.py` what belongs there"


def test_no_sentence_is_idle():
    assert {key_of(place) for place in MACHINE.places.values()} == set(SENTENCES)


def test_a_state_without_a_sentence_would_be_found():
    assert key_of("invented: NAME") is None


def test_shipped_places_are_those_of_the_grammar():
    shipped = load_machine().places
    assert sorted(shipped.values()) == sorted(MACHINE.places.values())


@pytest.mark.parametrize("text", sorted(set(SENTENCES.values())), ids=lambda text: text[:40])
def test_sentences_are_worded_like_the_others_and_show_what_parses(text):
    assert not text.endswith(".")
    assert len(text) < 140
    shown = re.findall(r"`([^`]+)`", text)
    for example in shown:
        written = example.replace("...", "a < 1")
        assert any(not parse(frame.format(written))[1] for frame in FRAMES), example


# ---------------------------------------------------------------- every state, run
def _shortest_texts():
    """For each symbol of the grammar the shortest sequence of tokens that it stands for."""
    found = {name: [name] for name in {t.name for t in MACHINE.lark.terminals}}
    changed = True
    while changed:
        changed = False
        for rule in MACHINE.lark.rules:
            parts = [found.get(symbol.name) for symbol in rule.expansion]
            if None in parts:
                continue
            text = [token for part in parts for token in part]
            if len(text) < len(found.get(rule.origin.name, [None] * 99)):
                found[rule.origin.name] = text
                changed = True
    return found


def _prefixes():
    """For each state the tokens of a shortest path to it."""
    texts = _shortest_texts()
    start = MACHINE.lark.parser.parser._parse_table.start_states["start"]
    found, queue = {start: []}, deque([start])
    while queue:
        state = queue.popleft()
        for symbol, (action, target) in sorted(STATES[state].items(), key=lambda pair: pair[0]):
            if action is Shift and target not in found and symbol in texts:
                found[target] = found[state] + texts[symbol]
                queue.append(target)
    return found


def _tokens(types):
    found, at = [], 0
    for kind in types:
        text = SAMPLES.get(kind, kind.lower())
        found.append(Token(kind, text, at, end_pos=at + len(text)))
        at += len(text) + 1
    return found


def test_every_state_explains_every_token_that_it_refuses():
    prefixes = _prefixes()
    assert set(prefixes) == set(STATES)
    terminals = sorted({t.name for t in MACHINE.lark.terminals} - {"COMMENT"} | {"$END"})
    parser, num_refused = _ItemParser(), 0
    for state, prefix in sorted(prefixes.items()):
        for terminal in (t for t in terminals if t not in STATES[state]):
            tokens = _tokens(prefix if terminal == "$END" else [*prefix, terminal])
            if all(token.type == "_NL" for token in tokens):
                continue
            _, diagnostics = parser.parse(tokens)
            for diagnostic in diagnostics:
                num_refused += 1
                assert diagnostic.help
                if diagnostic.message.startswith(("expected ", "the line ends here")):
                    assert diagnostic.help in SENTENCES.values()
                assert not re.search(r"\b(?:NAME|LPAR|RPAR|CMP|VBAR|_NL|UNKNOWN)\b|\$END", diagnostic.message)
                assert 0 <= diagnostic.span.start <= diagnostic.span.end <= tokens[-1].end_pos
    assert num_refused > 15_000


def test_what_is_accepted_is_what_lark_says():
    machine = load_machine()
    seen = set()
    for text in (text for mistake in MISTAKES for text in mistake.examples):
        run = machine.lark.parse_interactive()
        for token in machine.tokens(text):
            if token.type not in run.accepts():
                break
            run.feed_token(token)
            accepted = machine.accepted(run.parser_state.state_stack)
            assert accepted == run.accepts()
            seen.add(accepted)
    assert len(seen) > 30


def test_the_sentence_is_that_of_the_place():
    text = "toxicity < 0.1 confidence high"
    (diagnostic,) = parse(text)[1]
    assert diagnostic.help == sentence("confidence: CONFIDENCE") == SENTENCES["confidence:"]
    (diagnostic,) = parse("toxicity < 0.1 because high")[1]
    assert diagnostic.help == SENTENCES["because:"]
