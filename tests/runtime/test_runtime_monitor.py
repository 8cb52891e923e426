"""A monitor over text that is still being written: early verdicts are right, never late, and stop a generation."""

from __future__ import annotations

import doctest
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_llama, word_tokenizer
from tiny_tokenizers import END, FAMILIES

from constraintlang_compiler.monitors.dfa import PrefixVerdict
from constraintlang_runtime import Policy
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.integrations import monitor as monitor_module

POLICY = """\
edition 1
attribute digit: flag { backend = regex(re"[0-9]") }
attribute rude: flag { backend = regex(re"\\bbad\\b") }
attribute sorry: flag { backend = regex(re"sorry") }
clean: always not digit
asks: always sorry
warm: rude implies sorry under tolerance=10%
short: words <= 3
either: always (not digit or words <= 3)
order: always over sentences (globally (rude implies eventually sorry))
first: always over sentences (sorry before rude)
chat: always not rude for domain=chat
"""
TEXTS = st.text(alphabet="abd s.1\n!", max_size=30) | st.lists(
    st.sampled_from(["bad", " ", "sorry", ". ", "1", "\n", "x", "! "]), max_size=12
).map("".join)


def policy(text: str = POLICY, **options: Any) -> Policy:
    return Policy.from_text(text, **options)


WHOLE = policy()


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 30), max_size=6))
def test_an_early_verdict_is_the_final_one(text: str, cuts: list[int]) -> None:
    """Whatever the pieces; and what is presumed of wording is what holds of the text so far."""
    monitor = WHOLE.monitor(tags={"domain": "chat"})
    places = sorted({0, *(min(c, len(text)) for c in cuts), len(text)})
    early: dict[str, bool] = {}
    for begin, end in pairwise(places):
        new = monitor.feed(text[begin:end])
        assert not set(new) & set(early)
        early |= new
    assert monitor.text == text
    presumed = {
        name: verdict for name, verdict in monitor.verdicts.items() if name in ("clean", "asks", "warm")
    }
    final = monitor.end()
    assert set(final) == {"clean", "asks", "warm", "short", "either", "order", "first", "chat"}
    assert {name: final[name] for name in early} == early
    for name, verdict in presumed.items():
        assert verdict is not None
        assert (verdict >= PrefixVerdict.PRESUMABLY_TRUE) == final[name]
    assert monitor.violated == tuple(name for name, obeyed in final.items() if not obeyed)


def test_verdicts_come_as_soon_as_they_are_certain() -> None:
    monitor = WHOLE.monitor()
    assert monitor.feed("You are ba") == {}
    assert monitor.verdicts["short"] is None  # a number of words is known at the end
    assert monitor.feed("d") == {}  # it might become `badge`
    assert monitor.verdicts["warm"] is PrefixVerdict.PRESUMABLY_FALSE
    assert monitor.feed(".") == {}  # the sentence may go on, as in `v1.2`
    assert monitor.feed(" ") == {"first": False}  # rude, and not sorry before
    assert monitor.feed("I am sorry") == {"asks": True, "warm": True}
    assert monitor.verdicts["order"] is PrefixVerdict.PRESUMABLY_FALSE  # the second sentence has not ended
    assert monitor.feed(". ") == {}
    assert monitor.verdicts["order"] is PrefixVerdict.PRESUMABLY_TRUE
    assert monitor.feed("Room 1") == {"clean": False}
    assert "chat" not in monitor.verdicts  # it speaks of other prompts
    assert monitor.violated == ("first", "clean")
    assert monitor.end() == {
        "clean": False, "asks": True, "warm": True, "short": False, "either": False, "order": True, "first": False,
    }  # fmt: skip


def test_conditions_are_joined_by_what_is_known_of_each() -> None:
    text = POLICY + "one: always (sorry or over sentences (globally not rude))\n"
    text += "both: always (sorry and over sentences (globally not rude))\n"
    monitor = policy(text).monitor(clauses=["one", "both"])
    monitor.feed("You. ")
    assert monitor.verdicts == {"one": PrefixVerdict.PRESUMABLY_TRUE, "both": PrefixVerdict.PRESUMABLY_FALSE}
    assert monitor.feed("bad. ") == {"both": False}
    assert monitor.verdicts["one"] is PrefixVerdict.PRESUMABLY_FALSE
    assert monitor.feed("sorry") == {"one": True}


def test_turns_end_where_the_next_begins() -> None:
    text = 'edition 1\nattribute rude: flag { backend = regex(re"bad") }\nt: always over turns (globally not rude)\n'
    monitor = policy(text).monitor()
    for piece in ("User: a bad one", "\nAssis", "tant"):
        assert monitor.feed(piece) == {}
    assert monitor.feed(": well") == {"t": False}


def test_a_scorer_of_the_callers_is_not_second_guessed() -> None:
    """Bound to another scorer, a pattern of the policy decides nothing."""
    other = policy(scorers={"digit": lambda prompts, completions, **_: [0.0] * len(completions)})
    monitor = other.monitor(clauses=["clean"])
    assert monitor.feed("Room 1") == {}
    assert monitor.end() == {"clean": True}


def test_parts_without_a_score_decide_nothing() -> None:
    other = policy(scorers={"rude": lambda prompts, completions, **_: [None] * len(completions)})
    monitor = other.monitor(clauses=["order"])
    assert monitor.feed("One. Two. ") == {}
    assert monitor.verdicts["order"] is None
    assert monitor.end() == {"order": False}  # unknown is a violation


@pytest.mark.parametrize(
    ("text", "clauses", "message"),
    [
        ("mean(words) <= 3", None, "nothing to monitor"),
        (POLICY, ["nothing"], "no clause `nothing`"),
        ("edition 1\nt: always over tokens (globally words <= 3)\n", None, "speaks of tokens"),
        ("a: mean(words) <= 3\nb: words <= 3", ["a"], "not about single responses"),
    ],
)
def test_what_cannot_be_monitored(text: str, clauses: list[str] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy(text).monitor(clauses=clauses)


def test_the_docstring_is_true() -> None:
    found = doctest.testmod(monitor_module)
    assert (found.attempted > 0, found.failed) == (True, 0)


# ------------------------------------------------------------ stopping
NO_DIGIT = 'edition 1\nattribute digit: flag { backend = regex(re"[0-9]") }\nclean: always not digit\n'


@pytest.mark.parametrize("name", ["byte_level_bpe", "bytes_fall_back", "word_piece"])
def test_a_generation_stops_at_the_token_that_violates(name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=FAMILIES[name](), eos_token=END, pad_token=END)
    model = tiny_llama(len(tokenizer))
    digits = [i for i in range(len(tokenizer)) if any(c.isdigit() for c in tokenizer.decode([i]))]
    with torch.no_grad():
        model.lm_head.weight[digits] *= 0.8
    own = policy(NO_DIGIT)
    stopping = own.stopping_criteria(tokenizer)
    stopped = 0
    for seed in range(2):  # the same criterion, call after call
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            out = model.generate(
                input_ids=torch.tensor([[3, 4, 5]] * 12), do_sample=True, max_new_tokens=6,
                stopping_criteria=[stopping], pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
        for ids, violated in zip(out[:, 3:].tolist(), stopping.violated, strict=True):
            ids = ids[: ids.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in ids else ids
            texts = [tokenizer.decode(ids[:end]) for end in range(1, len(ids) + 1)]
            # a text that ends within a character may still change
            with_digit = [any(c.isdigit() for c in t) and not t.endswith("\ufffd") for t in texts]
            assert violated == (("clean",) if any(with_digit) else ())
            assert not any(with_digit[:-1])
            stopped += bool(violated)
    assert 0 < stopped < 24


def test_rows_have_their_own_tags_and_other_rows_begin_anew() -> None:
    tokenizer = word_tokenizer(["bad", "good"])
    own = policy()
    stopping = own.stopping_criteria(tokenizer, tags=[{"domain": "chat"}, {}], clauses=["chat"])

    def stops(rows: list[list[int]]) -> list[bool]:
        return stopping(torch.tensor(rows), None).tolist()

    bad, good = 3, 4
    assert stops([[good, good, bad], [good, good, bad]]) == [False, False]  # `bad` may go on as a longer word
    assert stops([[good, good, bad, good], [good, good, bad, good]]) == [True, False]
    assert stopping.violated == [("chat",), ()]
    assert [m.text for m in stopping.monitors] == ["bad good", "bad good"]
    assert stops([[good, good, good, good, bad], [good, good, good, good, bad]]) == [
        False,
        False,
    ]  # changed rows
    assert [m.text for m in stopping.monitors] == ["good good bad"] * 2
    assert stops([[bad, good, good], [good, good, good]]) == [
        False,
        False,
    ]  # a new call: the prompt does not count
    # what follows an end fills the batch up
    end = tokenizer.eos_token_id
    assert stops([[bad, good, good, end], [good, good, good, good]]) == [False, False]
    assert stops([[bad, good, good, end, bad], [good, good, good, good, bad]]) == [False, False]
    changed = [good, good, good, end, bad, good]
    assert stops([[bad, *changed[1:]], changed]) == [False, False]
    assert stopping.monitors[0].text == "good"
    # the next call's prompt may be as long as the last one's whole text: its tokens are not read as a reply
    assert stops([[bad] * 7, [bad] * 7]) == [False, False]
    assert [m.text for m in stopping.monitors] == ["bad"] * 2
    with pytest.raises(ConfigError, match="nothing is known of `short`"):
        own.stopping_criteria(tokenizer, clauses=["short"])


def test_several_tokens_at_once() -> None:
    """Assisted decoding adds what was accepted of a draft, from the first call on."""
    tokenizer = word_tokenizer(["bad", "good"])
    bad, good = 3, 4
    own = policy()
    known = own.stopping_criteria(tokenizer, tags=[{"domain": "chat"}], clauses=["chat"], prompt_width=2)
    assert known(torch.tensor([[good, bad, good, bad, good]]), None).tolist() == [True]
    assert known.monitors[0].text == "good bad good"
    assert known(torch.tensor([[good, bad, good]]), None).tolist() == [
        False
    ]  # the same prompt, answered again
    assert known(torch.tensor([[good, bad, good, good, bad]]), None).tolist() == [False]
    assert known(torch.tensor([[good, bad, good, good, bad, good, good]]), None).tolist() == [True]
    unknown = own.stopping_criteria(tokenizer, tags=[{"domain": "chat"}], clauses=["chat"])
    unknown(torch.tensor([[good, bad, good]]), None)
    with pytest.raises(ConfigError, match="2 tokens came at once"):
        unknown(torch.tensor([[good, bad, good, bad, good]]), None)


def test_assisted_decoding_stops() -> None:
    tokenizer = word_tokenizer(["bad", "good", "fine"])
    model = tiny_llama(len(tokenizer))
    asked = torch.tensor([[4, 5, 3, 4, 5, 3, 4, 5]])
    own = policy()
    stopped = 0
    for seed in range(8):
        stopping = own.stopping_criteria(
            tokenizer, tags=[{"domain": "chat"}], clauses=["chat"], prompt_width=8
        )
        torch.manual_seed(seed)
        out = model.generate(
            input_ids=asked, attention_mask=torch.ones_like(asked), do_sample=True, max_new_tokens=12,
            prompt_lookup_num_tokens=3, stopping_criteria=[stopping],
        )  # fmt: skip
        new = out[0, 8:].tolist()
        new = new[: new.index(1)] if 1 in new else new
        assert bool(stopping.violated[0]) == (3 in new[:-1])
        stopped += bool(stopping.violated[0])
    assert stopped > 0


def test_rows_of_one_prompt_stand_side_by_side() -> None:
    tokenizer = word_tokenizer(["bad", "good"])
    own = policy()
    stopping = own.stopping_criteria(tokenizer, ["a", "b"], tags=[{"domain": "chat"}, {}], clauses=["chat"])
    asked = torch.tensor([[4, 4]] * 2)
    tiny_llama(len(tokenizer)).generate(
        input_ids=asked,
        do_sample=True,
        num_return_sequences=3,
        max_new_tokens=8,
        stopping_criteria=[stopping],
    )
    assert len(stopping.violated) == 6
    assert stopping.violated[3:] == [()] * 3
    stops = own.stopping_criteria(tokenizer, tags=[{"domain": "chat"}, {}], clauses=["chat"])
    assert stops(torch.tensor([[4, 3]] * 4), None).tolist() == [False] * 4
    assert stops(torch.tensor([[4, 3, 4]] * 4), None).tolist() == [True, True, False, False]
    with pytest.raises(ConfigError, match="the batch has 3 rows, and prompts or tags are given for 2"):
        stops(torch.tensor([[4, 3]] * 3), None)
    with pytest.raises(DataError, match="got 1 prompts and tags of 2 rows"):
        own.stopping_criteria(tokenizer, ["a"], tags=[{}, {}], clauses=["chat"])
