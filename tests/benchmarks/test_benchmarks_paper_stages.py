"""The RL rows of the paper benchmark: mathematics against the enumerable world, a run of each on a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from enumerable_world import World as ExactWorld
from enumerable_world import small_world, tree
from tiny_models import World, read_jsonl
from tiny_tokenizers import END, byte_level_bpe, bytes_fall_back
from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "paper"))

import etpo
import reinforce
import rl
from job import Job, Scale, Trained
from stage import Stage, at_sites, budgeted, shuffled, site_logits, token_log_probs, warm_cosine

from constraintlang_runtime.data import TokenRow, next_tokens
from constraintlang_runtime.errors import ConfigError, DataError

TRAIN = {"rl": rl.train, "reinforce": reinforce.train, "etpo": etpo.train}


def a_job(world: World, work: Path, system: str, **changes: Any) -> Job:
    """A row over the tiny world whose plain model is the start model."""
    sizes = {"steps": 3, "oracle_calls": 24} | changes
    scale = Scale(
        "tiny", {"llama": str(world.model)}, str(world.root / "words.tsv"), 0.05, sizes["steps"], 4, 1e-3, 64, 6,
        sizes["oracle_calls"], 0, 0, 0, 0, 0, 1, bf16=False,
    )  # fmt: skip
    job = Job(scale, system, "llama", 0, world.data, world.prompts, world.policy, work)
    plain = job.folder_of("plain")
    plain.mkdir(parents=True)
    Trained(str(world.model), 5.0, 6.0, 0, 7, 100).write(plain)
    return job


# ------------------------------------------------------------ the stage
def test_log_probabilities_are_those_of_the_whole_pass(world: World, tmp_path: Path) -> None:
    stage = Stage.start(a_job(world, tmp_path, "reinforce"))
    drawn = stage.draw(stage.prompt_batch(0, 4, 2), 0)
    batch = stage.collate(drawn.rows)
    found, sites = stage.log_probs(stage.model, batch)
    whole = stage.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.log_softmax(-1)
    for i, row in enumerate(drawn.rows):
        places = range(len(row.prompt) - 1, len(row.ids) - 1)
        expected = [whole[i, t, row.ids[t + 1]].item() for t in places]
        assert found[i, sites[i]].tolist() == pytest.approx(expected, abs=1e-5)
        assert int(sites[i].sum()) == len(row.completion)
    assert found[~sites].abs().max() == 0


def test_every_text_is_counted_kept_and_paid_for(world: World, tmp_path: Path) -> None:
    stage = Stage.start(a_job(world, tmp_path, "reinforce", oracle_calls=10))
    drawn = stage.draw(stage.prompt_batch(0, 3, 2), 0)
    assert stage.oracle.calls == 6
    lines = read_jsonl(stage.job.folder / "oracle.jsonl")
    assert [line["completion"] for line in lines] == drawn.completions
    assert [line["toxicity"] for line in lines] == drawn.scores.tolist()
    assert {line["step"] for line in lines} == {0}
    with pytest.raises(ConfigError, match="4 of 10 oracle calls left"):
        stage.draw(stage.prompt_batch(1, 5), 1)
    stage.draw(stage.prompt_batch(1, 4), 1)
    with stage.oracle.path.open("a") as file:
        file.write('{"step": 1, "toxi')  # killed while it wrote
    stage.oracle.rewind(1)
    assert stage.oracle.calls == 6
    assert read_jsonl(stage.job.folder / "oracle.jsonl") == lines


def test_violations_are_the_policy_s(world: World, tmp_path: Path) -> None:
    stage = Stage.start(a_job(world, tmp_path, "reinforce", oracle_calls=200))
    drawn = stage.draw(stage.prompt_batch(0, 80), 0)
    broken = [not ok for ok in stage.oracle.satisfied(
        drawn.completions, drawn.prompts, [row.tags for row in drawn.rows]
    )]  # fmt: skip
    assert drawn.violations.tolist() == [float(b) for b in broken]
    assert 0 < sum(broken) < 80
    assert (drawn.scores[broken] >= 0.1).all()
    assert drawn.rewards.tolist() == [-float(b) for b in broken]


def test_an_epoch_sees_every_row_once() -> None:
    rows: Any = list(range(7))
    seen = [row for step in range(7) for row in shuffled(rows, step, 3, 1)]
    for epoch in range(3):
        assert sorted(seen[7 * epoch : 7 * epoch + 7]) == rows
    assert seen[:7] != seen[7:14]


@pytest.mark.parametrize(
    ("steps", "calls", "group", "expected"),
    [(150, 12_000, 8, (150, 80)), (5, 64, 8, (5, 8)), (5, 64, 1, (5, 12)), (100, 64, 8, (8, 8)), (9, 4, 8, (1, 8))],
)  # fmt: skip
def test_steps_and_texts_fit_the_budget(
    steps: int, calls: int, group: int, expected: tuple[int, int]
) -> None:
    scale = Scale("s", {}, "", 0.1, steps, 32, 1e-4, 96, 24, calls, 0, 0, 0, 0, 0, 1)
    assert budgeted(scale, group) == expected


def test_the_learning_rate_warms_up_and_ends_near_zero() -> None:
    rates = [warm_cosine(step, 150, 2.0) for step in range(150)]
    assert rates[9] == 2.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3


# ------------------------------------------------------------ REINFORCE
def test_the_gradient_of_reinforce_is_that_of_reward_less_kl() -> None:
    """A law in quarters, and a batch with every sequence as often as it says: its mean is the expectation."""
    rng = np.random.default_rng(0)
    prefixes, sequences = tree(3, 2)
    table = np.stack([rng.permutation([0.5, 0.25, 0.25]) for _ in prefixes])[None]
    world = ExactWorld(np.ones(1, dtype=int), prefixes, sequences, table)
    counts = np.rint(world.law[0] * 16).astype(int)
    assert counts.sum() == 16
    rewards = torch.tensor(rng.normal(size=len(sequences)))
    before = torch.tensor(np.log(rng.dirichlet(np.ones(3), size=len(prefixes))))
    logits = torch.tensor(np.log(table[0]), requires_grad=True)
    beta = 0.7

    def paths(log_table: torch.Tensor) -> torch.Tensor:
        """log-probability of each token of each sequence [N, 2], 0 after its end."""
        rows = [
            [log_table[s, y[t]] for t, s in enumerate(world.path(n))] for n, y in enumerate(world.sequences)
        ]
        zero = torch.zeros((), dtype=log_table.dtype)
        return torch.stack([torch.stack([*row, *[zero] * (2 - len(row))]) for row in rows])

    drawn = [n for n, count in enumerate(counts) for _ in range(count)]
    loss = reinforce.reinforce_loss(
        paths(logits.log_softmax(-1))[drawn], paths(before)[drawn], rewards[drawn], beta
    )
    (found,) = torch.autograd.grad(loss, logits)
    every = paths(logits.log_softmax(-1)).sum(1)
    objective = (every.exp() * (rewards - beta * (every - paths(before).sum(1)))).sum()
    (exact,) = torch.autograd.grad(-objective, logits)
    assert torch.allclose(found, exact, atol=1e-12)
    assert exact.abs().max() > 0.01


# ------------------------------------------------------------ soft Bellman backup
def exact_soft_values(world: ExactWorld, rewards: np.ndarray, beta: float) -> np.ndarray:
    """β log E_{p_0}[exp(r/β) | x, node] [P, D], by listing the sequences; at a sequence its reward."""
    return beta * np.log(world.value(np.exp(rewards / beta)))


def every_path(
    world: ExactWorld, values: np.ndarray, q: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """V(s_t), Q(s_t, y_t) and the sites [P·N, T] of all sequences of all prompts."""
    shape = (world.num_prompts * len(world.sequences), max(len(y) for y in world.sequences) + 1)
    padded_v, padded_q, sites = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    for p in range(world.num_prompts):
        for n, y in enumerate(world.sequences):
            row = p * len(world.sequences) + n
            for t, s in enumerate(world.path(n)):
                padded_v[row, t], padded_q[row, t], sites[row, t] = values[p, s], q[p, s, y[t]], True
    return torch.tensor(padded_v), torch.tensor(padded_q), torch.tensor(sites)


@pytest.mark.parametrize("trace", [0.0, 0.5, 1.0])
def test_the_exact_soft_values_are_a_fixed_point_of_the_backup(trace: float) -> None:
    world, beta = small_world(3), 0.4
    rewards = -world.score(1)
    exact = exact_soft_values(world, rewards, beta)
    q = exact[:, world.child]
    values, chosen, sites = every_path(world, exact, q)
    targets = etpo.soft_backup(values, chosen, torch.tensor(rewards.ravel()), sites, trace)
    assert torch.allclose(targets[sites], chosen[sites], atol=1e-12)
    assert (targets[~sites] == 0).all()


def test_soft_values_and_policy_are_those_of_enumeration() -> None:
    world, beta = small_world(5), 0.3
    rewards = -world.contains(1) - 0.5 * world.score(2)
    exact = exact_soft_values(world, rewards, beta)
    table, q = torch.tensor(world.table), torch.tensor(exact[:, world.child])
    num_prefixes = len(world.prefixes)
    found = etpo.soft_values(table.log().flatten(0, 1), q.flatten(0, 1), beta)
    assert found.numpy() == pytest.approx(exact[:, :num_prefixes].ravel())
    tilted, _ = world.tilt(world.law, np.exp(rewards / beta))
    greedy = etpo.soft_greedy(table.log().flatten(0, 1), q.flatten(0, 1), beta).exp().view(table.shape)
    assert greedy.numpy() == pytest.approx(world.next_token(tilted))


@pytest.mark.parametrize("trace", [0.0, 0.6])
def test_repeated_backups_reach_the_exact_values_from_nothing(trace: float) -> None:
    world, beta = small_world(7), 0.5
    rewards = -world.score(4)
    exact = exact_soft_values(world, rewards, beta)
    table = torch.tensor(world.table)
    q = np.zeros_like(world.table)
    for _ in range(40):
        values = etpo.soft_values(table.log(), torch.tensor(q), beta).numpy()
        padded, chosen, sites = every_path(world, values, q)
        targets = etpo.soft_backup(padded, chosen, torch.tensor(rewards.ravel()), sites, trace).numpy()
        total, times = np.zeros_like(q), np.zeros_like(q)
        for p in range(world.num_prompts):
            for n, y in enumerate(world.sequences):
                for t, s in enumerate(world.path(n)):
                    total[p, s, y[t]] += targets[p * len(world.sequences) + n, t]
                    times[p, s, y[t]] += 1
        q = total / times
        if trace == 0.0 and _ == max(len(y) for y in world.sequences) - 1:
            break  # one token per backup is enough
    assert q == pytest.approx(exact[:, world.child], abs=1e-6)


# ------------------------------------------------------------ the rows
@pytest.mark.filterwarnings("ignore")  # of TRL's own
@pytest.mark.parametrize("system", TRAIN)
def test_a_row_trains_within_its_budget(world: World, tmp_path: Path, system: str) -> None:
    if system == "rl":
        pytest.importorskip("trl", reason="TRL is not installed: pip install --group test")
    job = a_job(world, tmp_path, system)
    trained = TRAIN[system](job)
    assert trained == Trained.read(job.folder)
    assert trained.oracle_calls == 24
    assert trained.steps == 7 + 3
    assert trained.seconds > 5.0
    assert trained.tokens > 100
    assert trained.stages == ("plain",)
    lines = read_jsonl(job.folder / "oracle.jsonl")
    assert len(lines) == 24
    assert {line["step"] for line in lines} == {0, 1, 2}
    prompts = {" ".join(line["prompt"].split()) for line in lines}
    assert prompts <= {row["prompt"] for row in read_jsonl(world.prompts)}
    before, after = (_weights(folder) for folder in (world.model, Path(trained.model)))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert sorted(path.name for path in job.folder.iterdir()) == ["model", "oracle.jsonl", "trained.json"]


def with_first_token(inner: Any, writes: bool) -> Any:
    """A tokenizer that writes a first token itself, as Llama's, or leaves it to the caller, as GPT-2's."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if writes:
        first = (END, inner.token_to_id(END))
        inner.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[first])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=END, eos_token=END, pad_token=END)


@pytest.mark.parametrize(
    ("family", "writes"), [(bytes_fall_back, True), (byte_level_bpe, True), (byte_level_bpe, False)]
)
def test_a_prompt_is_read_back_with_one_first_token(family: Any, writes: bool) -> None:
    tokenizer = with_first_token(family(), writes)
    texts = ["the thing is 123", "Köln"]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = [TokenRow((tokenizer.bos_token_id, *own), (), {}, False) for own in ids]
    found = rl.prompts_to_read(rows, tokenizer)
    assert tokenizer(found)["input_ids"] == [list(row.prompt) for row in rows]
    assert [text.startswith(END) for text in found] == [not writes] * 2


def test_a_prompt_that_is_read_back_as_another_is_refused() -> None:
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    inner = byte_level_bpe()
    upper = tuple(inner.encode("OK").ids)
    inner.normalizer = normalizers.Lowercase()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=END)
    with pytest.raises(DataError, match="'OK' is read back as 'ok'"):
        rl.prompts_to_read([TokenRow(upper, (), {}, False)], tokenizer)


def test_rl_goes_on_from_the_newest_checkpoint_that_is_whole(tmp_path: Path) -> None:
    assert rl.newest_whole(tmp_path / "none") is None
    for step in (2, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert rl.newest_whole(tmp_path) is None
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}" / rl.STATE).write_text("{}")
    assert rl.newest_whole(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.filterwarnings("ignore")  # of TRL's own
def test_rl_trains_without_dropout(world: World, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is not installed: pip install --group test")
    said = []

    class Seen(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            said.append(args.disable_dropout)

    rl.train(a_job(world, tmp_path, "rl", steps=1, oracle_calls=8), [lambda stage: Seen()])
    assert said == [True]


@pytest.mark.parametrize("system", ["reinforce", "etpo"])
def test_a_broken_off_stage_ends_as_an_unbroken_one(
    world: World, tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TRAIN[system](a_job(world, tmp_path / "whole", system))
    draw = Stage.draw

    def stops(self: Stage, prompts: Any, step: int, *others: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return draw(self, prompts, step, *others)

    broken = a_job(world, tmp_path / "broken", system)
    monkeypatch.setattr(Stage, "draw", stops)
    with pytest.raises(KeyboardInterrupt):
        TRAIN[system](broken)
    monkeypatch.setattr(Stage, "draw", draw)
    resumed = TRAIN[system](broken)
    first, second = (_weights(Path(one.model)) for one in (whole, resumed))
    for name, values in first.items():
        assert torch.allclose(values, second[name], atol=1e-6), name
    assert resumed.oracle_calls == whole.oracle_calls
    assert resumed.tokens == whole.tokens


def test_the_critic_starts_at_zero_and_keeps_the_policy_where_it_is(world: World, tmp_path: Path) -> None:
    stage = Stage.start(a_job(world, tmp_path, "etpo"))
    batch = stage.collate(stage.draw(stage.prompt_batch(0, 4), 0).rows)
    logits, sites = site_logits(stage.model, batch)
    q = etpo.Critic(stage.reference())(batch, sites)
    assert q.abs().max() == 0
    assert torch.allclose(etpo.soft_greedy(logits, q, 0.3), logits.log_softmax(-1), atol=1e-6)
    own = at_sites(token_log_probs(logits, next_tokens(batch.input_ids, sites)), sites)
    assert torch.allclose(own, stage.log_probs(stage.model, batch)[0])


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_configs_name_functions_that_exist() -> None:
    from job import config_of

    for system, function in TRAIN.items():
        config = config_of(system)
        assert config["train"] == f"{system}:train"
        module = sys.modules[system]
        assert getattr(module, "train") is function  # noqa: B009
        assert set(config["options"]) <= set(module.DEFAULTS), json.dumps(config)
        assert config["after"] == ["plain"]
