"""Texts at which completions end: in samples, in what is judged, in training rows, and by command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import World, read_jsonl, write_jsonl

from constraintc.main import main
from constraintc.sources import stop_text
from constraintlang_runtime.data import encode_rows, prompt_rows
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.grouping import as_sampled
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.sampling import completion_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw, before_stop, stop_texts
from constraintlang_runtime.scorers.parts import _before_end
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.stop_texts import stop_position

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def loaded(world: World) -> tuple[Any, Any, list[Any]]:
    tokenizer = load_tokenizer(str(world.model))
    prompts = prompt_rows(
        encode_rows(read_jsonl(world.prompts), tokenizer, max_length=64, need_completion=False)
    )
    return load_model(str(world.model), tokenizer=tokenizer), tokenizer, prompts


def words_of(texts: Sequence[str]) -> list[str]:
    """Words that some of the texts have and not all, the most frequent first."""
    found = [word for text in texts for word in text.split()]
    return sorted(set(found), key=lambda word: (-found.count(word), word))


# ------------------------------------------------------------ samples
@pytest.mark.parametrize("width", [1, 3])
def test_a_sample_is_that_without_stop_up_to_the_text(loaded: Any, width: int) -> None:
    """Draws are by row and step, so that the law is the same up to the place where a completion ends."""
    model, tokenizer, prompts = loaded
    chosen = (prompts * 4)[:48]
    whole = sample(model, tokenizer, chosen, SamplingLaw(24), seed=3, batch_size=16)
    said = completion_texts(whole, tokenizer)
    stop = tuple(words_of(said)[:width])
    law = SamplingLaw(24, stop=stop)
    ended = sample(model, tokenizer, chosen, law, seed=3, batch_size=16)
    assert completion_texts(ended, tokenizer, stop) == [before_stop(text, stop) for text in said]
    shorter = 0
    for row, other in zip(ended, whole, strict=True):
        assert row.completion == other.completion[: len(row.completion)]
        if len(row.completion) < len(other.completion):
            shorter += 1
            text = tokenizer.decode(row.completion, skip_special_tokens=True)
            assert any(one in text for one in stop)
            before = tokenizer.decode(row.completion[:-1], skip_special_tokens=True)
            assert not any(one in before for one in stop)  # no token more than it takes
    assert shorter > 5


def test_a_text_of_the_prompt_ends_nothing(loaded: Any) -> None:
    """A stop text is looked for in what is said, not where the prompt ends in it."""
    model, tokenizer, prompts = loaded
    law = SamplingLaw(6)
    last = tokenizer.decode(prompts[0].prompt[-1:])
    free = sample(model, tokenizer, prompts[:1] * 8, law, seed=0)
    stop = (last + completion_texts(free, tokenizer)[0][:1],)
    ended = sample(model, tokenizer, prompts[:1] * 8, SamplingLaw(6, stop=stop), seed=0)
    assert ended[0].completion == free[0].completion


@given(st.text("ab\n", max_size=12), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3))
def test_a_text_is_cut_at_the_first_of_them(text: str, stop: list[str]) -> None:
    cut = before_stop(text, stop)
    assert text.startswith(cut)
    assert not any(one in cut for one in stop)
    assert cut == text or any(text[len(cut) :].startswith(one) for one in stop)


class Letters:
    """A tokenizer with a token for each letter."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join("ab\n"[i] for i in ids)


@given(
    st.lists(st.integers(0, 2), max_size=12), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3)
)
def test_the_position_is_the_least(ids: list[int], stop: list[str]) -> None:
    found = stop_position(ids, Letters(), stop)
    expected = [n for n in range(len(ids) + 1) if any(one in Letters().decode(ids[:n]) for one in stop)]
    assert found == (min(expected) if expected else None)


# ------------------------------------------------------------ training rows and settings
def test_training_rows_are_judged_as_they_would_have_been_sampled(loaded: Any) -> None:
    _, tokenizer, prompts = loaded
    ids = tokenizer("it looks sturdy and warm . it looks", add_special_tokens=False)["input_ids"]
    row = replace(prompts[0], completion=tuple(ids))
    (cut,) = as_sampled([row], SamplingLaw(64, stop=("and",)), tokenizer)
    assert completion_texts([cut], tokenizer, ("and",))[0].strip() == "it looks sturdy"
    assert as_sampled([row], SamplingLaw(64), tokenizer) == [row]


def test_conditions_on_tokens_end_there_too() -> None:
    prefixes = ["ok", "ok fine", "ok fine.\nUs", "ok fine.\nUser"]
    assert _before_end(prefixes, "ok fine.") == ["ok", "ok fine", "ok fine."]
    assert _before_end(prefixes, "ok fine") == ["ok", "ok fine"]
    assert _before_end(prefixes, "") == []
    assert _before_end(prefixes, prefixes[-1]) == prefixes


def test_one_text_is_no_list_of_letters() -> None:
    assert stop_texts("User:") == ("User:",)
    assert ConstraintSettings(stop="User:").law.stop == ("User:",)
    assert ConstraintSettings(stop=["a", "b"]).law.stop == ("a", "b")
    assert ConstraintSettings().law.stop == ()
    for wrong in ([""], [3]):
        with pytest.raises(ConfigError, match="stop: got"):
            ConstraintSettings(stop=wrong).check()  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="vllm samples without it"):
        ConstraintSettings(stop=["a"], sampler="vllm", sampler_url="http://h:1", lora_r=4).check()


def test_what_is_typed() -> None:
    assert [stop_text(text) for text in (r"\n\n", "User:", r"a\tb", r"\\n", "\\")] == [
        "\n\n", "User:", "a\tb", "\\n", "\\",
    ]  # fmt: skip


# ------------------------------------------------------------ by command
def test_training_under_a_policy_judges_what_is_said_before(
    world: World, tmp_path: Path, capsys: Captured
) -> None:
    """Completions that end at every word of the list never say one: no sample and no training row violates."""
    listed = [line.split("\t")[0] for line in (world.root / "words.tsv").read_text().splitlines() if line]
    stop = [word for text in listed for word in ("--stop", text)]
    output = tmp_path / "out"
    assert main(["train", *world.flags(output), *stop]) == 0
    out = capsys.readouterr().out
    assert f"--stop={listed[0]}" in out  # of the command that verifies
    assert "0% -> 0% of the responses break it" in out
    record = json.loads((output / "constraint" / "run.json").read_text())
    assert record["settings"]["stop"] == listed


def test_replies_of_generate_and_eval_end_there(world: World, tmp_path: Path, capsys: Captured) -> None:
    words = ["generate", "--model", str(world.model), "--prompts", str(world.prompts), "--format", "json"]
    assert main(words) == 0
    free = [json.loads(line)["completion"] for line in capsys.readouterr().out.splitlines()]
    stop = words_of(free)[0]
    assert main([*words, "--stop", stop]) == 0
    ended = [json.loads(line)["completion"] for line in capsys.readouterr().out.splitlines()]
    assert ended == [before_stop(text, [stop]) for text in free]
    assert ended != free
    output = tmp_path / "ev"
    policy = [
        "eval",
        str(world.policy),
        "--model",
        str(world.model),
        "--prompts",
        f"chat={world.prompts}",
        "--quiet",
    ]
    assert main([*policy, "--output", str(output), "--stop", stop, "--stop", r"\n"]) in (0, 1, 3)
    assert all(stop not in row["completion"] for row in read_jsonl(output / "samples.jsonl"))
    assert json.loads((output / "verdict.json").read_text())["sampling"]["stop"] == [stop, "\n"]


def test_completions_made_elsewhere_have_no_stop(world: World, tmp_path: Path, capsys: Captured) -> None:
    rows = write_jsonl(tmp_path / "r.jsonl", [{"prompt": "p", "completion": "c"}])
    assert main(["eval", str(world.policy), "--completions", f"chat={rows}", "--stop", "x"]) == 2
    assert "--stop: --completions are judged as they are" in capsys.readouterr().err
