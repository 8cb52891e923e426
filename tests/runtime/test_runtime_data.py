"""Rows: how they are read, cut into prompt and completion, masked, padded and shifted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import word_tokenizer, write_jsonl

from constraintlang_runtime.columns import row_tags, split_domain
from constraintlang_runtime.data import (
    IGNORED_LABEL,
    TokenRow,
    collate,
    encode_rows,
    load_rows,
    next_tokens,
    prediction_sites,
    prompt_rows,
)
from constraintlang_runtime.errors import DataError, ModelError
from constraintlang_runtime.loading import load_model
from constraintlang_runtime.score.row_stream import Position, RowStream

WORDS = [f"w{i}" for i in range(100)]
END = 1


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return word_tokenizer(WORDS)


def text_of(length: int, first: int = 0) -> str:
    return " ".join(WORDS[(first + i) % 100] for i in range(length))


# ------------------------------------------------------------------------------------------------ reading
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("chat=rows.jsonl", ("chat", "rows.jsonl")),
        ("rows.jsonl", (None, "rows.jsonl")),
        ("a/b=c.jsonl", (None, "a/b=c.jsonl")),
        ("a.b=c.jsonl", (None, "a.b=c.jsonl")),
        ("chat=a=b.jsonl", ("chat", "a=b.jsonl")),
        ("=x.jsonl", (None, "=x.jsonl")),
    ],
)
def test_split_domain(spec: str, expected: tuple[str | None, str]) -> None:
    assert split_domain(spec) == expected


ROWS = [
    {"prompt": "a b", "completion": "c\u2028d", "domain": "x"},
    {"prompt": "e", "completion": "", "domain": "y"},
]


def test_every_format_gives_the_same_rows(world: Any, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    write_jsonl(tmp_path / "r.jsonl", ROWS)
    (tmp_path / "bom.jsonl").write_bytes(
        b"\xef\xbb\xbf" + (tmp_path / "r.jsonl").read_bytes().replace(b"\n", b"\r\n")
    )
    (tmp_path / "r.json").write_text(json.dumps(ROWS))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "r.parquet")
    for name in ("r.jsonl", "bom.jsonl", "r.json", "r.parquet"):
        assert load_rows([str(tmp_path / name)], role="data") == ROWS, name
    (tmp_path / "r.csv").write_text('prompt,completion,domain\na b,"c, d",x\n')
    assert load_rows([str(tmp_path / "r.csv")], role="data") == [
        {"prompt": "a b", "completion": "c, d", "domain": "x"}
    ]
    (tmp_path / "r.txt").write_text("one two\nthree\n")
    assert load_rows([str(tmp_path / "r.txt")], role="data") == [{"text": "one two"}, {"text": "three"}]


def test_the_domain_on_the_command_line_wins(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", [*ROWS, {"prompt": "z"}])
    assert [row["domain"] for row in load_rows([f"chat={path}"], role="data")] == ["chat"] * 3
    assert ["domain" in row for row in load_rows([str(path)], role="data")] == [True, True, False]
    both = load_rows([f"one={path}", f"two={path}"], role="data")
    assert [row["domain"] for row in both] == ["one"] * 3 + ["two"] * 3


def test_an_edited_file_is_read_anew(world: Any, tmp_path: Path) -> None:
    """Readers of `datasets` keep a cache of what they have read."""
    for number in range(2):
        (tmp_path / "r.json").write_text(json.dumps([{"text": f"version {number}"}]))
        assert load_rows([str(tmp_path / "r.json")], role="data") == [{"text": f"version {number}"}]


def test_rows_of_two_shapes_in_one_file(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", [{"text": "a"}, {"prompt": "b", "completion": "c"}])
    assert len(load_rows([str(path)], role="data")) == 2


def test_tags_are_what_is_not_content() -> None:
    row = {
        "prompt": "a",
        "completion": "b",
        "text": None,
        "messages": None,
        "domain": "x",
        "lang": None,
        "n": 0,
    }
    assert row_tags(row) == {"domain": "x", "n": 0}


# ------------------------------------------------------------------------------------------------ cutting
@pytest.mark.parametrize(("length", "longest"), [(1, 1), (2, 1), (5, 2), (20, 10), (64, 32), (90, 32)])
def test_the_cut_of_text_rows_is_uniform(tokenizer: Any, length: int, longest: int) -> None:
    rows = [{"text": text_of(length, first)} for first in range(100)]
    cuts = {
        len(row.prompt)
        for seed in range(12 if longest > 8 else 3)
        for row in encode_rows(rows, tokenizer, max_length=200, seed=seed)
    }
    assert cuts == set(range(1, longest + 1))


@pytest.mark.parametrize(("most", "longest"), [(64, 32), (20, 10), (3, 1)])
def test_a_row_that_loses_its_tail_is_cut_in_what_is_left(tokenizer: Any, most: int, longest: int) -> None:
    rows = [{"text": text_of(90, first)} for first in range(100)]
    encoded = [row for seed in range(12) for row in encode_rows(rows, tokenizer, max_length=most, seed=seed)]
    assert {len(row.prompt) for row in encoded} == set(range(1, longest + 1))
    assert {len(row.ids) for row in encoded} == {most}


def test_the_cut_depends_on_seed_and_text_alone(tokenizer: Any) -> None:
    rows = [{"text": text_of(60, first)} for first in range(30)]
    cuts = [len(row.prompt) for row in encode_rows(rows, tokenizer, max_length=99, seed=5)]
    assert cuts == [len(row.prompt) for row in encode_rows(rows, tokenizer, max_length=70, seed=5)]
    assert cuts[::-1] == [
        len(row.prompt) for row in encode_rows(rows[::-1], tokenizer, max_length=99, seed=5)
    ]
    assert cuts != [len(row.prompt) for row in encode_rows(rows, tokenizer, max_length=99, seed=6)]


def test_prompt_and_completion_are_tokenised_apart_and_ended(tokenizer: Any) -> None:
    (row,) = encode_rows([{"prompt": "w0 w1", "completion": "w2", "lang": "en"}], tokenizer, max_length=9)
    assert row == TokenRow((3, 4), (5, END), {"lang": "en"}, False)
    (text,) = encode_rows([{"text": "w0 w1 w2"}], tokenizer, max_length=9)
    assert text == TokenRow((3,), (4, 5, END), {}, True)


def test_a_beginning_token_is_put_first() -> None:
    tokenizer = word_tokenizer(["<s>", *WORDS], bos_token="<s>")
    rows = encode_rows([{"prompt": "w0", "completion": "w1"}, {"text": "w0 w1"}], tokenizer, max_length=9)
    assert [row.ids for row in rows] == [(3, 4, 5, END), (3, 4, 5, END)]
    assert rows[1].prompt == (3, 4)


def test_truncation_loses_the_end_token(tokenizer: Any) -> None:
    long = {"prompt": "w0 w1", "completion": "w2 w3 w4"}
    assert encode_rows([long], tokenizer, max_length=6)[0].completion == (5, 6, 7, END)
    assert encode_rows([long], tokenizer, max_length=5)[0].completion == (5, 6, 7)
    assert encode_rows([long], tokenizer, max_length=3)[0].completion == (5,)
    with pytest.raises(DataError, match="its prompt has 2 tokens, max_length is 2"):
        encode_rows([long], tokenizer, max_length=2)


def test_prompts_alone(tokenizer: Any) -> None:
    (row,) = encode_rows([{"prompt": "w0"}], tokenizer, max_length=9, need_completion=False)
    assert (row.prompt, row.completion) == ((3,), ())
    rows = encode_rows(
        [{"prompt": "w0", "domain": "a"}, {"prompt": "w0", "domain": "b"}, {"prompt": "w0", "domain": "a"}],
        tokenizer, max_length=9, need_completion=False,
    )  # fmt: skip
    assert [row.tags["domain"] for row in prompt_rows(rows)] == ["a", "b"]
    assert len(prompt_rows(rows, 1)) == 1


TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
CHAT = [{"role": "user", "content": "w0 w1"}, {"role": "assistant", "content": "w2"}]


@pytest.fixture(scope="module")
def chat_tokenizer() -> Any:
    made = word_tokenizer(["user", "assistant", *WORDS])
    made.chat_template = TEMPLATE
    return made


def test_messages(chat_tokenizer: Any) -> None:
    user, assistant, w0, w1, w2 = 3, 4, 5, 6, 7
    (row,) = encode_rows([{"messages": CHAT, "domain": "x"}], chat_tokenizer, max_length=20)
    assert row == TokenRow((user, w0, w1, END, assistant), (w2, END), {"domain": "x"}, False)
    whole = chat_tokenizer.apply_chat_template(CHAT, return_dict=False)
    assert list(row.ids) == list(whole)  # the template's own tokens, never text put together again
    (open_,) = encode_rows([{"messages": CHAT[:1]}], chat_tokenizer, max_length=20, need_completion=False)
    assert (open_.prompt, open_.completion) == (row.prompt, ())
    with pytest.raises(DataError, match="not from the assistant"):
        encode_rows([{"messages": CHAT[:1]}], chat_tokenizer, max_length=20)


def test_a_template_whose_prompt_is_no_prefix(chat_tokenizer: Any) -> None:
    other = word_tokenizer(["user", "assistant", *WORDS])
    other.chat_template = TEMPLATE.replace("assistant {% endif %}", "w9 {% endif %}")
    with pytest.raises(DataError, match="prefix of the whole conversation"):
        encode_rows([{"messages": CHAT}], other, max_length=20)


@pytest.mark.parametrize("messages", ["hello", [], ["hello"], {"role": "user"}], ids=repr)
def test_messages_that_are_none(chat_tokenizer: Any, messages: Any) -> None:
    with pytest.raises(DataError, match="row 0"):
        encode_rows([{"messages": messages}], chat_tokenizer, max_length=20)


# ------------------------------------------------------------------------------------------------ batches
def test_collate_masks_padding_by_length_not_by_token() -> None:
    rows = [TokenRow((5, 0), (0, 7, 1), {}, False), TokenRow((6,), (8,), {}, True)]
    batch = collate(rows, pad_id=0)
    assert batch.input_ids.tolist() == [[5, 0, 0, 7, 1], [6, 8, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    none = IGNORED_LABEL
    assert batch.labels.tolist() == [[none, none, 0, 7, 1], [6, 8, none, none, none]]
    assert batch.region.int().tolist() == [[0, 0, 1, 1, 1], [0, 1, 0, 0, 0]]
    assert collate(rows, pad_id=0, width=7).input_ids.shape == (2, 7)


def test_prediction_sites_are_one_before() -> None:
    rows = [TokenRow((5, 6), (7, 8), {}, False), TokenRow((5,), (9,), {}, False)]
    batch = collate(rows, pad_id=0)
    sites = prediction_sites(batch.region)
    assert sites.int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
    assert next_tokens(batch.input_ids, sites).tolist() == [7, 8, 9]


token_rows = st.builds(
    TokenRow,
    st.lists(st.integers(0, 9), min_size=1, max_size=6).map(tuple),
    st.lists(st.integers(0, 9), max_size=6).map(tuple),
    st.just({}),
    st.booleans(),
)


@given(st.lists(token_rows, min_size=1, max_size=5), st.integers(0, 9))
def test_what_a_batch_trains_is_what_the_rows_hold(rows: list[TokenRow], pad: int) -> None:
    """Region tokens are the completions, labels the trained tokens, sites as many as completion tokens."""
    batch = collate(rows, pad)
    sites = prediction_sites(batch.region)
    assert next_tokens(batch.input_ids, sites).tolist() == [t for row in rows for t in row.completion]
    trained = batch.labels[batch.labels != IGNORED_LABEL].tolist()
    assert trained == [t for row in rows for t in (row.ids if row.train_prompt else row.completion)]
    assert int(batch.attention_mask.sum()) == sum(len(row.ids) for row in rows)
    assert torch.equal(
        batch.input_ids[batch.attention_mask == 0],
        torch.full_like(batch.input_ids[batch.attention_mask == 0], pad),
    )


def test_an_empty_cell_of_a_csv_is_no_value(tmp_path: Path) -> None:
    """A row with a text is one, and nobody learns to answer nothing; a region `NA` stays a word."""
    path = tmp_path / "r.csv"
    path.write_text("text,prompt,completion,region\nhello there,,,NA\n,say hi,hi,\n")
    one, other = load_rows([str(path)], role="data")
    assert one == {"text": "hello there", "prompt": None, "completion": None, "region": "NA"}
    assert other == {"text": None, "prompt": "say hi", "completion": "hi", "region": None}
    path.write_text("prompt,completion\n,\n")
    with pytest.raises(DataError, match="has no value in"):
        load_rows([str(path)], role="data")


def test_a_csv_row_with_more_cells_than_the_header_is_no_row(tmp_path: Path) -> None:
    """A comma outside quotes: what stands behind it must not be lost in silence."""
    path = tmp_path / "r.csv"
    path.write_text("lang,text\nen,fine,\nen,hello, you idiot\n")
    with pytest.raises(
        DataError, match=r"^data: line 3 of .*r\.csv. has more cells than the header"
    ) as caught:
        load_rows([str(path)], role="data")
    assert "quotes" in str(caught.value.help)
    path.write_text('lang,text\nen,fine,\nen,"hello, you idiot"\n')
    assert [row["text"] for row in load_rows([str(path)], role="data")] == ["fine", "hello, you idiot"]


# ------------------------------------------------------------------------------------------------ the hub
@pytest.mark.parametrize("streams", [False, True])
def test_what_the_hub_says_is_passed_on(streams: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set with several configurations cannot be named; the library says which there are."""

    def load_dataset(*_args: Any, **_options: Any) -> Any:
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"loaded: Config name is missing\. Please pick .*'a', 'b'") as found:
        if streams:
            list(RowStream("owner/name").batches(2, Position()))
        else:
            load_rows(["owner/name"])
    assert "to_json('rows.jsonl')" in str(found.value.help)


@pytest.mark.parametrize(
    ("said", "helped"),
    [
        ("You are trying to access a gated repo.\nMake sure to have access to it", "log in"),
        ("The repository x contains custom code; pass the argument `trust_remote_code=True`", "is not run"),
    ],
)
def test_why_a_model_of_the_hub_is_not_loaded(
    said: str, helped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_options: Any) -> Any:
        raise OSError(said)

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(ModelError) as found:
        load_model("owner/name")
    assert said.splitlines()[0] in found.value.message
    assert helped in str(found.value.help)


def test_rows_know_where_they_were_read(tmp_path: Path) -> None:
    for name, text, places in (
        ("r.jsonl", '\n{"text": "a"}\n\n{"text": "b"}\n', ["line 2", "line 4"]),
        ("r.csv", 'text,lang\n"a\nb",en\nc,\nd,de\n', ["line 2", "line 4", "line 5"]),
        ("r.txt", "a\nb\n", ["line 1", "line 2"]),
        ("r.json", '[{"text": "a"}, {"text": "b"}]', ["row 0", "row 1"]),
    ):
        path = tmp_path / name
        path.write_text(text)
        rows = load_rows([f"chat={path}", str(path)])
        assert [row.place for row in rows] == [f"{place} of `{path}`" for place in [*places, *places]]  # type: ignore[attr-defined]
        assert [row.get("domain") for row in rows] == ["chat"] * len(places) + [None] * len(places)
        copied = copy.deepcopy(rows)
        assert copied == rows
        assert [row.place for row in copied] == [row.place for row in rows]  # type: ignore[attr-defined]


def test_a_row_that_cannot_be_used_is_named_by_its_file(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"text": "w0"}\n\n{"prompt": "w0"}\n')
    with pytest.raises(DataError, match=r"^line 3 of `.*r\.jsonl` has a prompt but no completion"):
        encode_rows(load_rows([str(path)]), tokenizer, max_length=9)
    with pytest.raises(DataError, match=r"^row 1 has a prompt but no completion"):
        encode_rows([dict(row) for row in load_rows([str(path)])], tokenizer, max_length=9)
