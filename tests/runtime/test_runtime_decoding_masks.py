"""Generation under masks writes only responses that satisfy the clauses, from any model and tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tiny_llama, word_tokenizer
from tiny_tokenizers import END, FAMILIES
from tokenizers import decoders

from constraintlang import SourceFile
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.decoding_masks import LanguageMask, language_mask
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.sampling import completion_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.binding import bind_scorers

POLICY = """\
edition 1
attribute number: flag { backend = regex(re"\\d\\d\\d") }
attribute rude: count { backend = lexicon("rude.txt") }
attribute polite: flag { backend = regex(re"(?i)please|bitte") }
attribute tone: score in [0, 1] { backend = python("acme:tone") }
no_number: always not number
kind: rude == 0 under tolerance=1%
asks: always polite or not number
calm: always tone < 0.5
average: mean(tone) < 0.5
order: always over sentences (polite before rude > 0)
"""
PROMPT = (3, 4, 5)


def policy(text: str = POLICY) -> Any:
    return compile_source(SourceFile(text)).ir


def chosen(names: tuple[str, ...], text: str = POLICY) -> Any:
    ir = policy(text)
    return ir, [clause for clause in ir.clauses if clause.label in names]


def mask_of(
    tokenizer: Any, folder: Path, *names: str, text: str = POLICY, max_new_tokens: int | None = None
) -> LanguageMask:
    ir, clauses = chosen(names, text)
    ends = [tokenizer.eos_token_id]
    return language_mask(
        ir, clauses, tokenizer, end_tokens=ends, folder=folder, max_new_tokens=max_new_tokens
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rude.txt").write_text("cat\nnow\t2\n", encoding="utf-8")
    return tmp_path


def generate(
    model: Any, tokenizer: Any, mask: LanguageMask | None, *, count: int = 24, seed: int = 0
) -> list[str]:
    rows = sample(
        model, tokenizer, [TokenRow(PROMPT[: 1 + i % 3], (), {}, False) for i in range(count)],
        SamplingLaw(12, 1.0, 1.0), seed=seed, batch_size=10, logits_processor=[] if mask is None else [mask],
    )  # fmt: skip
    return completion_texts(rows, tokenizer)


@pytest.mark.parametrize("name", ["byte_level_bpe", "bytes_fall_back", "word_piece"])
def test_generated_text_satisfies_the_clauses(name: str, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=FAMILIES[name](), eos_token=END, pad_token=END)
    model = tiny_llama(len(tokenizer) + 3)  # more logits than tokens, as padded embeddings have
    digits = [i for i in range(len(tokenizer)) if tokenizer.decode([i]).strip().isdigit()]
    cats = [
        i
        for i in range(len(tokenizer))
        if tokenizer.decode([i]).strip() in ("c", "cat", "at", "n", "ow", "now")
    ]
    with torch.no_grad():  # a model that is drawn to what is forbidden
        model.lm_head.weight[digits] *= 4
        model.lm_head.weight[cats] *= 2
    scorers = bind_scorers(policy(), {}, {"tone": lambda **given: [0.0]}, folder=folder)

    def violations(texts: list[str]) -> int:
        found = sum(np.array(scorers[key](prompts=texts, completions=texts)) for key in ("number", "rude"))
        return int((np.asarray(found) > 0).sum())

    assert violations(generate(model, tokenizer, None)) > 0
    mask = mask_of(tokenizer, folder, "no_number", "kind")
    capped = mask_of(tokenizer, folder, "no_number", "kind", max_new_tokens=12)
    for seed in range(2):  # the same mask, batch after batch
        found = generate(model, tokenizer, mask, seed=seed)
        # the cap may cut a reply where a word could still have become another: one letter more mends it
        cut = [text for text in found if violations([text])]
        assert len(cut) < len(found) / 4
        assert violations([text + "x" for text in cut]) == 0
        assert violations(generate(model, tokenizer, capped, seed=seed)) == 0


def test_the_last_token_ends_what_was_begun(folder: Path) -> None:
    """What cannot be ended in one token is left as it would be without a cap."""
    tokenizer = word_tokenizer(["go", "cat", "s"])
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()  # tokens side by side
    go, cat, s, end = 3, 4, 5, tokenizer.eos_token_id
    mask = mask_of(tokenizer, folder, "kind", max_new_tokens=2)

    def allowed(row: list[int]) -> set[int]:
        return set(torch.nonzero(mask(torch.tensor([row]), torch.zeros(1, 6))[0] == 0).flatten().tolist())

    assert allowed([go]) >= {go, cat, s, end}
    assert allowed([go, cat]) & {go, cat, s, end} == {go, cat, s}
    assert allowed([go, s]) & {go, cat, s, end} == {go, cat, s, end}
    mask.begin()
    assert allowed([go, go]) & {go, cat, s, end} == {go, cat, s, end}
    mask = mask_of(tokenizer, folder, "kind", max_new_tokens=1)
    assert allowed([go]) & {go, cat, s, end} == {go, s, end}
    text = 'edition 1\nattribute twice: flag { backend = regex(re"gogo") }\nx: always twice\n'
    mask = mask_of(tokenizer, folder, "x", text=text, max_new_tokens=1)
    assert allowed([go]) & {go, cat, s, end} == {go, cat, s}


@pytest.mark.parametrize("drafts", ["prompt", "assistant"])
@pytest.mark.parametrize("do_sample", [False, True])
def test_assisted_decoding(drafts: str, do_sample: bool, folder: Path) -> None:
    """It asks for the logits behind each token of a draft, and then goes back to where the draft was left."""
    tokenizer = word_tokenizer(["go", "on", "cat", "dog", "please"])
    text = (
        'edition 1\nattribute pair: flag { backend = regex(re"cat.*dog|dog.*cat") }\n'
        'attribute polite: flag { backend = regex(re"please") }\napart: always not pair\nasks: always polite\n'
    )
    options = {"prompt_lookup_num_tokens": 3} if drafts == "prompt" else {"assistant_model": tiny_llama(8, 1)}
    model = tiny_llama(8)
    mask = mask_of(tokenizer, folder, "apart", "asks", text=text)
    asked = torch.tensor([[3, 5, 6, 7, 3, 5, 6, 7, 3]])
    pairs = 0
    for seed in range(12):
        for masks in ([mask], []):
            torch.manual_seed(seed)
            out = model.generate(
                input_ids=asked, attention_mask=torch.ones_like(asked), max_new_tokens=24, do_sample=do_sample,
                logits_processor=masks, **options,
            )  # fmt: skip
            new = out[0, asked.shape[1] :].tolist()
            if masks:
                assert not {5, 6} <= set(new), tokenizer.decode(new)
                assert 7 in new or 1 not in new
            pairs += not masks and {5, 6} <= set(new)
    assert pairs > 0


def test_a_mask_goes_back_and_on(folder: Path) -> None:
    tokenizer = word_tokenizer(["please", "go", "now"])
    text = 'edition 1\nattribute polite: flag { backend = regex(re"please") }\nasks: always polite\n'
    mask = mask_of(tokenizer, folder, "asks", text=text)
    please, go, now, end = 3, 4, 5, tokenizer.eos_token_id

    def may_end(*row: int) -> bool:
        return bool(mask(torch.tensor([row]), torch.zeros(1, len(tokenizer)))[0, end] == 0)

    assert [may_end(go), may_end(go, please), may_end(go, please, go)] == [False, True, True]
    assert may_end(go, please, now)  # another token in the place of the draft's
    assert not may_end(go, now)
    assert not may_end(go, now, go)
    assert may_end(go, please, now, now)
    assert not may_end(go)
    # Not what was seen before and one token more: the next prompt, however it begins.
    assert not may_end(go, now, please, please)


def test_an_end_that_only_the_model_knows_is_none_of_an_unfinished_text(folder: Path) -> None:
    tokenizer = word_tokenizer(["please", "go", "<turn>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    text = 'edition 1\nattribute polite: flag { backend = regex(re"please") }\nasks: always polite\n'
    model = tiny_llama(len(tokenizer))
    please, go, turn = 3, 4, 5
    model.generation_config.eos_token_id = [1, turn]
    for seed in range(8):
        torch.manual_seed(seed)
        mask = mask_of(tokenizer, folder, "asks", text=text)
        out = model.generate(
            input_ids=torch.tensor([[go]] * 8), max_new_tokens=30, do_sample=True, logits_processor=[mask]
        )
        for row in out[:, 1:].tolist():
            assert turn not in row or please in row[: row.index(turn)]


def test_what_another_scorer_measures_is_not_masked(folder: Path) -> None:
    ir, clauses = chosen(("no_number", "kind"))
    tokenizer = word_tokenizer(["a"])
    with pytest.raises(ConfigError, match="`kind` cannot be masked: `rude` is measured by another scorer"):
        language_mask(ir, clauses, tokenizer, end_tokens=[1], folder=folder, rebound={"rude"})
    language_mask(ir, clauses[:1], tokenizer, end_tokens=[1], folder=folder, rebound={"rude"})


def test_a_mask_follows_the_rows_that_stay_in_a_batch(folder: Path) -> None:
    tokenizer = word_tokenizer(["please", "go", "now"])
    text = 'edition 1\nattribute polite: flag { backend = regex(re"please") }\nasks: always polite\n'
    mask = mask_of(tokenizer, folder, "asks", text=text)
    please, go, end = 3, 4, tokenizer.eos_token_id

    def may_end(rows: list[list[int]]) -> list[bool]:
        scores = mask(torch.tensor(rows), torch.zeros(len(rows), len(tokenizer)))
        return (scores[:, end] == 0).tolist()

    mask.begin()
    assert may_end([[go], [go], [go]]) == [False] * 3
    assert may_end([[go, go], [go, please], [go, now := 5]]) == [False, True, False]
    mask.select(torch.tensor([1, 2]))
    assert may_end([[go, please, go], [go, now, go]]) == [True, False]
    mask.begin()
    assert may_end([[go, please, go, go], [go, now, go, go]]) == [False, False]  # prompts again


def test_the_end_waits_until_the_text_satisfies_the_clauses(folder: Path) -> None:
    tokenizer = word_tokenizer(["please", "go", "now"])
    text = 'edition 1\nattribute polite: flag { backend = regex(re"please") }\nasks: always polite\n'
    mask = mask_of(tokenizer, folder, "asks", text=text)
    please, go, end = 3, 4, tokenizer.eos_token_id

    def may_end(rows: list[list[int]]) -> list[bool]:
        scores = mask(torch.tensor(rows), torch.zeros(len(rows), len(tokenizer)))
        return (scores[:, end] == 0).tolist()

    assert may_end([[please, go], [go, go]]) == [False, False]  # a prompt does not count
    assert may_end([[please, go, please], [go, go, go]]) == [True, False]
    assert may_end([[please, go, please, go], [go, go, go, go]]) == [True, False]
    # Rows in another order go on where their beginnings stood: beams do that.
    assert may_end([[go, go, go, go, go], [please, go, please, go, go]]) == [False, True]
    # A row that has ended is left alone, whatever fills it up.
    assert may_end([[go, go, go, go, go, please], [please, go, please, go, go, end]]) == [True, True]
    assert may_end([[go, go, go, go, go, please, end], [please, go, please, go, go, end, go]]) == [True, True]
    # Other prompts begin anew.
    assert may_end([[please] * 8]) == [False]


def test_rows_that_have_ended_are_left_alone(folder: Path) -> None:
    tokenizer = word_tokenizer(["go", "777"])
    mask = mask_of(tokenizer, folder, "no_number")
    rows = [[3, 3], [3, 3]]
    assert mask(torch.tensor(rows), torch.zeros(2, 5))[:, 4].tolist() == [-torch.inf, -torch.inf]
    rows = [[*rows[0], 3], [*rows[1], tokenizer.eos_token_id]]
    scores = mask(torch.tensor(rows), torch.zeros(2, 5))
    assert scores[0, 4] == -torch.inf
    assert scores[1].tolist() == [0.0] * 5


def test_beams(folder: Path) -> None:
    tokenizer = word_tokenizer(["please", "go", "cat", "7", "77", "777"])
    model = tiny_llama(len(tokenizer))
    mask = mask_of(tokenizer, folder, "no_number", "kind", "asks")
    out = model.generate(
        input_ids=torch.tensor([[3, 4]]), num_beams=3, max_new_tokens=8, do_sample=False, logits_processor=[mask],
        num_return_sequences=3, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    texts = tokenizer.batch_decode(out[:, 2:], skip_special_tokens=True)
    assert len(texts) == 3
    assert not [text for text in texts if "cat" in text.split() or "777" in text]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("calm",), "`calm` cannot be masked: it compares|`calm` cannot be masked: how large"),
        (("average",), "`average` cannot be masked: it is about an average"),
        (("order",), "`order` cannot be masked: it is about the sentences of a text"),
        ((), "no clause to mask by"),
    ],
)
def test_clauses_that_cannot_be_masked(names: tuple[str, ...], message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        mask_of(word_tokenizer(["a"]), folder, *names)


def test_what_no_response_can_satisfy(folder: Path) -> None:
    text = 'edition 1\nattribute a: flag { backend = regex(re"a") }\nx: always a\ny: always not a\n'
    with pytest.raises(ConfigError, match="no response"):
        mask_of(word_tokenizer(["a"]), folder, "x", "y", text=text)
    with pytest.raises(ConfigError, match="no response"):  # the tokenizer cannot write it
        mask_of(word_tokenizer(["b"]), folder, "x", text=text)


def test_files_and_patterns(folder: Path) -> None:
    outside = POLICY.replace('"rude.txt"', '"../rude.txt"')
    with pytest.raises(ConfigError, match="outside its folder"):
        mask_of(word_tokenizer(["a"]), folder, "kind", text=outside)
    (folder / "rude.txt").write_text("cat\t-1\ndog\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="weights that are not above 0"):
        mask_of(word_tokenizer(["a"]), folder, "kind")
    large = POLICY.replace(r"\d\d\d", "a.{20}b.{20}c")
    with pytest.raises(ConfigError, match="`no_number` cannot be masked: more than"):
        mask_of(word_tokenizer(["a"]), folder, "no_number", text=large)


def test_tokenizers_that_change_the_text_afterwards(folder: Path) -> None:
    tokenizer = word_tokenizer(["a"])
    tokenizer.clean_up_tokenization_spaces = True
    with pytest.raises(ConfigError, match="cleans up spaces"):
        mask_of(tokenizer, folder, "no_number")


def test_a_mask_that_serves_for_long_keeps_one_generation(folder: Path) -> None:
    tokenizer = FAMILIES["byte_level_bpe"]()
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    mask = mask_of(fast, folder, "no_number")
    sizes = []
    for reply in range(4):
        ids = torch.tensor([PROMPT, PROMPT])
        for step in range(5):
            mask(ids, torch.zeros(2, len(fast)))
            ids = torch.cat([ids, torch.full((2, 1), 6 + reply + step)], dim=1)
        sizes.append(len(mask._states))
    assert sizes == [sizes[0]] * 4
