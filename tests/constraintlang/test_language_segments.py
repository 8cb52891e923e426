"""Sentences and turns: where they end, nothing lost but white space, and no slow text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from work_count import counted

from constraintlang.segments import sentences, split, turns


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("  \n\t ", []),
        ("One.", ["One."]),
        ("One. Two! Three", ["One.", "Two!", "Three"]),
        ("What?! Yes... No", ["What?!", "Yes...", "No"]),
        ("v1.2 is out. It costs 1.50", ["v1.2 is out.", "It costs 1.50"]),
        ('He said "no." (Twice!) **Done.** Ok', ['He said "no."', "(Twice!)", "**Done.**", "Ok"]),
        ("- a\n- b\r\n\r\n- c", ["- a", "- b", "- c"]),
        ("これは文です。次！終わり", ["これは文です。", "次！", "終わり"]),
        ("Ça va… Oui\u2028Non", ["Ça va…", "Oui", "Non"]),
        ("end.\u00a0Next", ["end.", "Next"]),
        ("a . b", ["a .", "b"]),
        ('"', ['"']),
    ],
)
def test_sentences(text, parts):
    assert sentences(text) == parts
    assert split(text, "sentences") == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("Hello.\nYou?", ["Hello.\nYou?"]),
        ("User: hi\nbot : yes\n  ok\n\nHUMAN:\n", ["User: hi", "bot : yes\n  ok", "HUMAN:"]),
        ("Well.\nUser: hi", ["Well.", "User: hi"]),
        ("Note: user: hi", ["Note: user: hi"]),
        ("User hi", ["User hi"]),
    ],
)
def test_turns(text, parts):
    assert turns(text) == parts
    assert split(text, "turns") == parts


texts = st.text(
    st.sampled_from("ab1.!?…。\"')* \n\r\u2028\u00a0:") | st.characters(exclude_categories=["Cs"])
)


@given(texts | st.lists(st.sampled_from(["User:", "bot:", "\n", " a", "."])).map("".join))
def test_nothing_but_white_space_is_lost(text):
    for level in ("sentences", "turns"):
        parts = split(text, level)
        assert "".join("".join(parts).split()) == "".join(text.split())
        assert all(part == part.strip() != "" for part in parts)
        # A part that is split again stays whole.
        assert [split(part, level) for part in parts] == [[part] for part in parts]


def test_other_levels():
    assert split("a. b.", "sequence") == ["a. b."]
    with pytest.raises(ValueError, match="got the level 'tokens'"):
        split("a", "tokens")


@pytest.mark.parametrize("text", [".", ". ", "\n", "user:", '."'])
@pytest.mark.parametrize("level", ["sentences", "turns"])
def test_the_work_is_linear(text, level):
    def steps(count):
        with counted(lines=True) as work:
            split(text * count, level)
        return work.calls + work.lines

    assert steps(400) < 2.1 * steps(200)
    # Inside a call of C, as of a regular expression, only the time-out of the tests sees what is quadratic.
    split(text * 500_000, level)
