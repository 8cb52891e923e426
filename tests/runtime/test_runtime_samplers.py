"""A sampling server: what is sent and taken, weights of every round, faults; a run through it is a run."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_vllm import FakeVllm, Reply, serving, slow
from tiny_models import World

from constraintc.main import main
from constraintlang_runtime import engine, rounds
from constraintlang_runtime.adapters import with_adapter
from constraintlang_runtime.data import TokenRow, encode_rows, load_rows
from constraintlang_runtime.errors import ConfigError, RuntimeFailure, TrainingError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.samplers import http
from constraintlang_runtime.samplers.http import KEY_VARIABLE, Server
from constraintlang_runtime.samplers.vllm import VllmSampler
from constraintlang_runtime.sampling import sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.settings import ConstraintSettings

Captured = pytest.CaptureFixture[str]
LAW = SamplingLaw(8)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.001)


@pytest.fixture
def fake(world: World) -> Iterator[FakeVllm]:
    with serving(FakeVllm(world.model)) as server:
        yield server


@pytest.fixture(scope="module")
def tokenizer(world: World) -> Any:
    return load_tokenizer(str(world.model))


@pytest.fixture
def adapted(world: World) -> Any:
    """The tiny model with an adapter that changes what it says."""
    import torch

    model = with_adapter(load_model(str(world.model)), ConstraintSettings(lora_r=2), seed=1)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.5
    return model


@pytest.fixture(scope="module")
def prompts(world: World, tokenizer: Any) -> list[TokenRow]:
    rows = load_rows([str(world.prompts)], role="")
    return encode_rows(rows, tokenizer, max_length=64, need_completion=False)


def sampler(fake: FakeVllm, timeout: float = 120.0, folder: Path | None = None) -> VllmSampler:
    return VllmSampler(Server(fake.url, timeout), None if folder is None else str(folder))


# ------------------------------------------------------------ what is sent and taken
def test_its_law_is_that_of_the_local_sampler(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow]
) -> None:
    """Lengths and first tokens of 160 completions; a wrong adapter or a lost end token would show."""
    repeated = prompts * 4
    served = sampler(fake)(adapted, tokenizer, repeated, LAW, seed=1)
    local = sample(adapted, tokenizer, repeated, LAW, seed=2)
    assert [row.prompt for row in served] == [row.prompt for row in repeated]
    lengths = [np.array([len(row.completion) for row in rows]) for rows in (served, local)]
    error = np.sqrt(sum(found.var() / len(found) for found in lengths))
    assert abs(lengths[0].mean() - lengths[1].mean()) < 4 * error
    counts = [Counter(row.completion[0] for row in rows) for rows in (served, local)]
    for token, count in (counts[0] + counts[1]).items():
        assert abs(counts[0][token] - counts[1][token]) < 5 * np.sqrt(count) + 1
    for rows in (served, local):
        assert {row.completion[-1] for row in rows if len(row.completion) < 8} == {1}
        assert not any(1 in row.completion[:-1] for row in rows)


def test_the_ids_are_those_that_were_sent_and_follow_from_the_seed(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow]
) -> None:
    ask = sampler(fake)
    twice = [ask(adapted, tokenizer, prompts[:6] * 2, LAW, seed=1, batch_size=size) for size in (1, 64)]
    assert twice[0] == twice[1]
    assert {(row.prompt, row.completion) for row in twice[0]} == set(fake.sent)
    assert twice[0][:6] != twice[0][6:]  # the same prompt twice has two seeds
    assert ask(adapted, tokenizer, prompts[:6] * 2, LAW, seed=2) != twice[0]
    for request in fake.requests:
        assert (request["max_tokens"], request["temperature"]) == (8, 1.0)
        assert request["stop_token_ids"] == [1]
    greedy = ask(adapted, tokenizer, prompts[:6], SamplingLaw(8, temperature=0), seed=1)
    local = sample(adapted, tokenizer, prompts[:6], SamplingLaw(8, temperature=0), seed=1)
    assert [row.completion for row in greedy] == [row.completion for row in local]


def test_weights_are_handed_over_when_they_have_changed(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow], tmp_path: Path
) -> None:
    ask = sampler(fake, folder=tmp_path)
    for _ in range(2):
        ask(adapted, tokenizer, prompts[:2], LAW, seed=1)
    assert (len(fake.loads), fake.unloads) == (1, [])
    for weight in adapted.parameters():
        weight.data = weight.data * 1.01 if weight.requires_grad else weight.data
    ask(adapted, tokenizer, prompts[:2], LAW, seed=1)
    assert len(fake.loads) == 2
    assert fake.unloads == fake.loads[:1]
    assert [path.name for path in tmp_path.iterdir()] == fake.loads[1:]  # one copy is kept


def test_progress_counts_completions(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow]
) -> None:
    seen: list[tuple[int, int]] = []
    sampler(fake)(adapted, tokenizer, prompts[:3], LAW, seed=1, progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]


# ------------------------------------------------------------ faults
def choice(**changes: Any) -> Callable[[str, Reply], Reply]:
    """Completions with something else in them."""

    def meddle(path: str, reply: Reply) -> Reply:
        if path == "/v1/completions":
            reply[1]["choices"][0].update(changes)
        return reply

    return meddle


def whole(reply: Reply) -> Callable[[str, Reply], Reply]:
    return lambda path, honest: reply


FAULTS = {
    "no token ids": (choice(token_ids=None), "text is never tokenized again"),
    "ids of another model": (choice(token_ids=[10**6], finish_reason="stop"), "ids that the model does not have"),
    "another prompt": (choice(prompt_token_ids=[3]), "another prompt"),
    "an end that is none": (choice(token_ids=[4, 5], finish_reason="stop"), "end tokens are"),
    "an end inside": (choice(token_ids=[4, 1, 5, 1], finish_reason="stop"), "end tokens are"),
    "aborted": (choice(finish_reason="abort"), "ended by 'abort'"),
    "cut short": (choice(token_ids=[4, 5], finish_reason="length"), "2 tokens ended by 'length'"),
    "no log-probabilities": (choice(logprobs=None), "no log-probabilities"),
    "no choice": (whole((200, {"choices": []})), "not one choice"),
    "no JSON": (whole((200, "<html>")), "not one choice"),
    "a refusal": (whole((400, {"error": {"message": "max rank is 8\nmore"}})), "refuses: status 400: max rank is 8"),
    "no such path": (whole((404, {"detail": "Not Found"})), "--enable-lora"),
    "a failure that stays": (whole((503, "busy")), "5 attempts.*status 503: busy"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_what_is_not_right_is_refused_with_the_address(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow], name: str
) -> None:
    fake.meddle, message = FAULTS[name]
    with pytest.raises(TrainingError, match=message) as caught:
        sampler(fake)(adapted, tokenizer, prompts[:2], LAW, seed=1)
    assert fake.url in str(caught.value)


def test_samples_of_another_model_are_refused(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes the adapter and goes on with the base model."""
    base = load_model(str(fake.base))
    monkeypatch.setattr(FakeVllm, "_model", lambda self, adapter: base)
    with pytest.raises(TrainingError, match=r"nats a token away from this model's"):
        sampler(fake)(adapted, tokenizer, prompts[:4], LAW, seed=1)


def test_a_server_that_recovers_is_asked_again(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow]
) -> None:
    honest = sampler(fake)(adapted, tokenizer, prompts[:3], LAW, seed=1)
    failures = Counter[str]()

    def shaky(path: str, reply: Reply) -> Reply:
        failures[path] += 1
        return (503, "busy") if failures[path] % 3 else reply

    fake.meddle = shaky  # it has heard what it does not confirm
    ask = sampler(fake)
    assert ask(adapted, tokenizer, prompts[:3], LAW, seed=1, batch_size=1) == honest
    assert failures["/v1/completions"] == 9
    for weight in adapted.parameters():
        weight.data = weight.data * 1.01 if weight.requires_grad else weight.data
    ask(adapted, tokenizer, prompts[:1], LAW, seed=1)
    assert len(fake.unloads) == 1


def test_a_server_that_hangs_is_given_up(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow]
) -> None:
    fake.meddle = slow(1.0)
    with pytest.raises(TrainingError, match=r"does not answer \(1 attempts\): timed out"):
        sampler(fake, timeout=0.1)(adapted, tokenizer, prompts[:1], LAW, seed=1)


def test_no_server(adapted: Any, tokenizer: Any, prompts: list[TokenRow]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TrainingError, match=r"5 attempts\): .*refused") as caught:
        VllmSampler(Server(url, 5.0))(adapted, tokenizer, prompts[:1], LAW, seed=1)
    assert url in str(caught.value)


def test_the_key_is_in_the_environment_alone(
    fake: FakeVllm, adapted: Any, tokenizer: Any, prompts: list[TokenRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.key = "s3cret"
    with pytest.raises(TrainingError, match=KEY_VARIABLE):
        sampler(fake)(adapted, tokenizer, prompts[:1], LAW, seed=1)
    monkeypatch.setenv(KEY_VARIABLE, "wrong-key")
    with pytest.raises(TrainingError, match="status 401") as caught:
        sampler(fake)(adapted, tokenizer, prompts[:1], LAW, seed=1)
    assert "wrong-key" not in str(caught.value)
    monkeypatch.setenv(KEY_VARIABLE, "s3cret")
    assert len(sampler(fake)(adapted, tokenizer, prompts[:1], LAW, seed=1)) == 1
    with pytest.raises(ConfigError, match=KEY_VARIABLE) as refused:
        Server("http://me:s3cret@host:1", 1.0)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://host?key=1"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="sampler_url"):
        Server(url, 1.0)


def test_what_a_server_cannot_do(
    fake: FakeVllm, world: World, adapted: Any, tokenizer: Any, prompts: list[TokenRow]
) -> None:
    with pytest.raises(ConfigError, match="--lora_r"):
        sampler(fake)(load_model(str(world.model)), tokenizer, prompts[:1], LAW, seed=1)
    with pytest.raises(ConfigError, match="guided"):
        sampler(fake)(adapted, tokenizer, prompts[:1], LAW, seed=1, logits_processor=[print])
    for settings in (
        {"sampler": "vllm"},
        {"sampler_url": "http://host:1"},
        {"sampler": "sglang"},
        {"sampler_timeout": 0},
    ):
        with pytest.raises(RuntimeFailure, match="sampler"):
            ConstraintSettings(**settings).check()


# ------------------------------------------------------------ a run
def test_a_run_through_the_server(
    fake: FakeVllm, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Every round samples the weights of that round, and what is trained on are the ids that the server sent."""
    kept: list[TokenRow] = []
    original = rounds.keep_samples

    def keep(group: Any, rows: Any, limit: int) -> None:
        kept.extend(rows)
        original(group, rows, limit)

    monkeypatch.setattr(engine, "keep_samples", keep)
    changes = {"lora_r": 2, "anchor": "start", "sampler": "vllm", "sampler_url": fake.url,
               "anchor_samples": 24, "control_samples": 8, "max_new_tokens": 6}  # fmt: skip
    assert main(["train", *world.flags(tmp_path / "out", **changes)]) == 0
    assert len(fake.requests) == 24 + 3 * 8  # the samples of the first round and of the three after it
    assert len(set(fake.loads)) == 4
    assert fake.unloads == fake.loads[:3]
    assert len(kept) == 24 + 3 * 8
    assert {(row.prompt, row.completion) for row in kept} <= set(fake.sent)
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    capsys.readouterr()
    fake.meddle = whole((500, "out of memory"))
    assert main(["train", *world.flags(tmp_path / "failed", **changes)]) == 4
    err = capsys.readouterr().err
    assert fake.url in err
    assert "out of memory" in err
    assert "internal error" not in err
