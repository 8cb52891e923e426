"""Conversations: which tokens are prompt, trained, regularized and scored; templates; the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import BANNED, MARKED, PLAIN, TEMPLATES, chat_tokenizer, conversations, write_chat_world
from tiny_models import World, word_tokenizer

from constraintc.main import main
from constraintlang_runtime.chat import end_of_turn, end_tokens
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
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.sampling import completion_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.parts import completion_prefixes

Captured = pytest.CaptureFixture[str]
TALK = [
    {"role": "system", "content": "small"},
    {"role": "user", "content": "red ball"},
    {"role": "assistant", "content": "blue"},
    {"role": "user", "content": "green box"},
    {"role": "assistant", "content": "red red"},
]


@pytest.fixture(params=sorted(TEMPLATES))
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return chat_tokenizer(TEMPLATES[request.param])


def ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.convert_tokens_to_ids(text.split()))


def labels_of(rows: list[TokenRow]) -> list[list[int]]:
    """The trained tokens of each row."""
    return [[t for t in line if t != IGNORED_LABEL] for line in collate(rows, 0).labels.tolist()]


# ------------------------------------------------------------ tokens
def test_every_turn_of_the_assistant_is_trained_with_its_end(tokenizer: Any) -> None:
    (row,) = encode_rows([{"messages": TALK, "domain": "x"}], tokenizer, max_length=99)
    assert row.tags == {"domain": "x"}
    assert list(row.completion) == ids(tokenizer, "red red <|im_end|>")
    assert list(row.prompt) == tokenizer.apply_chat_template(
        TALK[:-1], add_generation_prompt=True, return_dict=False
    )
    assert labels_of([row]) == [ids(tokenizer, "blue <|im_end|> red red <|im_end|>")]


def test_the_mask_is_that_of_transformers(tokenizer: Any) -> None:
    """Token by token, also for the template without markers, against the marked template's own mask."""
    judge = chat_tokenizer(MARKED)
    for row in conversations(5, 20):
        (encoded,) = encode_rows([row], tokenizer, max_length=99)
        found = judge.apply_chat_template(
            row["messages"], return_dict=True, return_assistant_tokens_mask=True
        )
        length = len(encoded.ids)
        assert list(encoded.ids) == found["input_ids"][:length]
        mask = [0] * length
        for start, end in encoded.trained:
            mask[start:end] = [1] * (end - start)
        assert mask == found["assistant_masks"][:length]
        assert not any(found["assistant_masks"][length:])


def test_the_end_of_the_turn_is_a_regularized_site_and_no_earlier_turn_is(tokenizer: Any) -> None:
    rows = encode_rows([{"messages": TALK}, {"messages": TALK[:3]}], tokenizer, max_length=99)
    batch = collate(rows, 0)
    sites = prediction_sites(batch.region)
    assert next_tokens(batch.input_ids, sites).tolist() == ids(
        tokenizer, "red red <|im_end|> blue <|im_end|>"
    )


def test_what_markers_leave_out_is_put_back() -> None:
    """Markers around the words alone, a usual mistake, would teach the model never to stop."""
    short = MARKED.replace(" <|im_end|>{% endgeneration %}", "{% endgeneration %} <|im_end|>")
    (row,) = encode_rows([{"messages": TALK}], chat_tokenizer(short), max_length=99)
    assert labels_of([row]) == [ids(chat_tokenizer(short), "blue <|im_end|> red red <|im_end|>")]


@pytest.mark.parametrize("special", [True, False])
def test_the_end_of_a_turn_is_found_and_never_scored(tokenizer: Any, special: bool) -> None:
    """Also when the tokenizer calls it an ordinary added token, which decoding would leave in the text."""
    made = chat_tokenizer(tokenizer.chat_template, special=special)
    (end,) = ids(made, "<|im_end|>")
    assert end_of_turn(made) == end
    assert end_tokens(made) == [made.eos_token_id, end]
    rows = encode_rows([{"messages": TALK}, {"messages": TALK[:3]}], made, max_length=99)
    assert completion_texts(rows, made) == ["red red", "blue"]
    assert completion_prefixes(rows[0], made) == ["red", "red red"]


def test_a_tokenizer_without_a_template_has_one_end() -> None:
    plain = word_tokenizer(["a"])
    assert end_of_turn(plain) is None
    assert end_tokens(plain) == [1]
    with pytest.raises(DataError, match="no chat template"):
        encode_rows([{"messages": TALK}], plain, max_length=99)


def test_a_beginning_token_is_put_once() -> None:
    made = chat_tokenizer("<s> " + PLAIN, bos_token="<s>")
    (bos,) = ids(made, "<s>")
    text = made.apply_chat_template(TALK[:2], tokenize=False, add_generation_prompt=True)
    rows = encode_rows(
        [{"messages": TALK[:2]}, {"prompt": text}, {"prompt": "red"}],
        made,
        max_length=99,
        need_completion=False,
    )
    assert [row.ids.count(bos) for row in rows] == [1, 1, 1]
    assert rows[0].prompt == rows[1].prompt


def test_answers_that_say_nothing(tokenizer: Any) -> None:
    silent = [*TALK[:2], {"role": "assistant", "content": ""}]
    (row,) = encode_rows([{"messages": silent}], tokenizer, max_length=99)
    assert labels_of([row]) == [list(row.completion)] == [ids(tokenizer, "<|im_end|>")]
    assert completion_texts([row], tokenizer) == [""]


def test_truncated_conversations(tokenizer: Any) -> None:
    (whole,) = encode_rows([{"messages": TALK}], tokenizer, max_length=99)
    (cut,) = encode_rows([{"messages": TALK}], tokenizer, max_length=len(whole.ids) - 2)
    assert cut.ids == whole.ids[:-2]
    assert labels_of([cut]) == [ids(tokenizer, "blue <|im_end|> red")]


# ------------------------------------------------------------ other forms of rows
def test_prompt_and_completion_as_lists_of_turns(tokenizer: Any) -> None:
    """As in TRL: what the prompt's assistant said is not trained."""
    (row,) = encode_rows([{"prompt": TALK[:4], "completion": TALK[4:]}], tokenizer, max_length=99)
    (whole,) = encode_rows([{"messages": TALK}], tokenizer, max_length=99)
    assert row.ids == whole.ids
    assert labels_of([row]) == [ids(tokenizer, "red red <|im_end|>")]
    (open_,) = encode_rows([{"prompt": TALK[:4]}], tokenizer, max_length=99, need_completion=False)
    assert (open_.prompt, open_.completion) == (whole.prompt, ())
    with pytest.raises(DataError, match="lists of turns"):
        encode_rows([{"prompt": TALK[:4], "completion": "red"}], tokenizer, max_length=99)


def test_texts_are_turns_when_asked(tokenizer: Any) -> None:
    text = {"prompt": "red ball", "completion": "blue"}
    (asked,) = encode_rows([text], tokenizer, max_length=99, chat=True)
    (turns,) = encode_rows([{"messages": TALK[1:3]}], tokenizer, max_length=99)
    assert asked == turns
    (plain,) = encode_rows([text], tokenizer, max_length=99)
    assert list(plain.ids) == ids(tokenizer, "red ball blue <end>")


def test_prompts_of_conversations_are_their_last_turns(tokenizer: Any) -> None:
    rows = encode_rows([{"messages": TALK}, {"messages": TALK[:3]}], tokenizer, max_length=99)
    assert [row.spans for row in prompt_rows(rows)] == [None, None]
    assert [row.prompt for row in prompt_rows(rows)] == [row.prompt for row in rows]


def test_a_conversation_that_ends_with_the_user_is_a_prompt(tokenizer: Any) -> None:
    rows = encode_rows([{"messages": TALK[:4]}], tokenizer, max_length=99, need_completion=False)
    assert rows[0].completion == ()
    with pytest.raises(DataError, match="row 0: its last message is not from the assistant"):
        encode_rows([{"messages": TALK[:4]}], tokenizer, max_length=99)


def test_tools_reach_a_template_that_has_them_and_are_refused_by_others() -> None:
    called = [
        *TALK[:2],
        {"role": "assistant", "content": "box"},
        {"role": "tool", "content": "lamp"},
        TALK[2],
    ]
    (row,) = encode_rows([{"messages": called}], chat_tokenizer(PLAIN), max_length=99)
    assert labels_of([row]) == [ids(chat_tokenizer(PLAIN), "box <|im_end|> blue <|im_end|>")]
    deaf = PLAIN.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'tool' %}")
    with pytest.raises(DataError, match="row 1: the chat template leaves out messages of the role `tool`"):
        encode_rows([{"messages": TALK}, {"messages": called}], chat_tokenizer(deaf), max_length=99)
    tools = [{"type": "function", "function": {"name": "lamp", "parameters": {}}}]
    listing = "{% if tools %}system {{ tools[0]['function']['name'] }} {% endif %}" + PLAIN
    for given in (tools, json.dumps(tools)):
        (row,) = encode_rows([{"messages": TALK, "tools": given}], chat_tokenizer(listing), max_length=99)
        assert list(row.prompt[:2]) == ids(chat_tokenizer(PLAIN), "system lamp")
        assert row.tags == {}
        with pytest.raises(DataError, match="row 0: the chat template leaves out the column `tools`"):
            encode_rows([{"messages": TALK, "tools": given}], chat_tokenizer(PLAIN), max_length=99)
    with pytest.raises(DataError, match="row 0: its `tools` is"):
        encode_rows([{"messages": TALK, "tools": "lamp"}], chat_tokenizer(listing), max_length=99)


def test_options_of_the_template_come_with_the_row() -> None:
    louder = PLAIN + "{% if add_generation_prompt and loud %}large {% endif %}"
    row = {"messages": TALK[:4], "chat_template_kwargs": {"loud": True}}
    (encoded,) = encode_rows([row], chat_tokenizer(louder), max_length=99, need_completion=False)
    assert list(encoded.prompt[-1:]) == ids(chat_tokenizer(PLAIN), "large")


# ------------------------------------------------------------ templates that cannot be trained on
STRIPS = PLAIN.replace(
    "{{ m['content'] }}", "{{ m['content'] if loop.last or m['role'] != 'assistant' else 'red' }}"
)
ENDLESS = PLAIN.replace("<|im_end|> after", "").replace("<|im_start|> ", "")
INJECTED = [*TALK[:4], {"role": "assistant", "content": "a <|im_end|> b"}]
BROKEN = {
    "an earlier turn changes": (STRIPS, TALK, "row 1: .*(prefix|differently)"),
    "the prompt is no prefix": (PLAIN.replace("assistant {% endif %}", "tool {% endif %}"), TALK, "row 1: .*prefix"),
    "turns have no end": (ENDLESS, TALK, "row 1: .*end token"),
    "it raises": ("{{ raise_exception('system first') }}", TALK, "row 1: .*system first"),
    "it adds a number": ("{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}", TALK, "row 1: .*refuses"),
    "markers elsewhere": (MARKED.replace("== 'assistant'", "== 'user'"), TALK, "row 1: .*markers"),
    "the end in the text": (PLAIN, INJECTED, "row 1: .*end token"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_what_cannot_be_trained_on_is_refused_by_the_rows_number(name: str) -> None:
    template, messages, message = BROKEN[name]
    made = chat_tokenizer(template)
    with pytest.raises(DataError, match=message):
        encode_rows([{"prompt": "red", "completion": "red"}, {"messages": messages}], made, max_length=99)


# ------------------------------------------------------------ sampling and the command line
@pytest.fixture(scope="module", params=sorted(TEMPLATES))
def chat_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_chat_world(tmp_path_factory.mktemp("chat"), TEMPLATES[request.param])


def test_generation_stops_at_every_end_and_keeps_its_ids(chat_world: World) -> None:
    tokenizer, model = load_tokenizer(str(chat_world.model)), load_model(str(chat_world.model))
    (end,) = ids(tokenizer, "<|im_end|>")
    third = ids(tokenizer, "lamp")[0]
    model.generation_config.eos_token_id = [1, third]
    prompts = encode_rows(
        load_rows([str(chat_world.prompts)], role=""), tokenizer, max_length=99, need_completion=False
    )
    rows = sample(model, tokenizer, prompts * 4, SamplingLaw(12), seed=1)
    ends = {1, end, third}
    assert {row.completion[-1] for row in rows if len(row.completion) < 12} == ends
    assert not any(token in ends for row in rows for token in row.completion[:-1])
    assert all(text.count("<|im_end|>") == 0 for text in completion_texts(rows, tokenizer))


def test_a_chat_model_is_trained_judged_and_asked(
    chat_world: World, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the command line: half of the training answers have the banned word, the bound is a fifth."""
    output = tmp_path / "out"
    flags = chat_world.flags(
        output, max_steps=120, rounds=12, anchor_samples=400, control_samples=120, auxiliary_steps=80,
        save_steps=500, per_device_train_batch_size=12, learning_rate=1e-2, logging_steps=40, verify_prompts=240,
    )  # fmt: skip
    assert main(["train", *flags]) == 0
    capsys.readouterr()
    judged = ["--prompts", str(chat_world.prompts), "--max_new_tokens", "10"]
    policy = str(chat_world.policy)
    code = main(["eval", policy, "--model", str(output), *judged, "--samples", "4", "--format", "json"])
    verdict = json.loads(capsys.readouterr().out)["clauses"][0]
    assert (code, verdict["verdict"]) == (0, "holds"), verdict
    plain = main(["train", *chat_world.flags(
        tmp_path / "plain", method="plain", max_steps=40, save_steps=500, per_device_train_batch_size=12,
        learning_rate=1e-2, logging_steps=40,
    )])  # fmt: skip
    assert plain == 0
    capsys.readouterr()
    code = main(
        ["eval", policy, "--model", str(tmp_path / "plain"), *judged, "--samples", "4", "--format", "json"]
    )
    assert json.loads(capsys.readouterr().out)["clauses"][0]["verdict"] == "violated"
    assert code == 1
    asked = [
        "--chat",
        "--prompt",
        "red ball",
        "--samples",
        "40",
        "--max_new_tokens",
        "10",
        "--format",
        "json",
    ]
    assert main(["generate", "--model", str(output), "--policy", policy, *asked]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["prompt"] for record in records} == {"user red ball after assistant"}
    assert not any("<|" in record["completion"] for record in records)
    assert all(record["violates"] == (BANNED in record["completion"].split()) for record in records)
    assert sum(len(record["completion"].split()) <= 3 for record in records) > 30  # it has learned to stop
