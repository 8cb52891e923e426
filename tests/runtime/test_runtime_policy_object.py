"""A policy in the hands of other tools: datasets.filter, TRL's reward functions, assertions about a model."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from tiny_models import World, tiny_llama, word_tokenizer

import constraintlang_runtime
from constraintc.main import main
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.pipeline import compile_path
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_runtime import Policy, PolicyReward, assert_satisfies
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.errors import ConfigError, DataError, ScorerError
from constraintlang_runtime.integrations.texts import as_text, row_texts
from constraintlang_runtime.loading import load_model, load_tokenizer

MIXED = """\
edition 1
short: words <= 3
average: mean(words) < 2 for domain=chat
"""


def test_the_public_names_exist() -> None:
    for name in constraintlang_runtime.__all__:
        assert getattr(constraintlang_runtime, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        constraintlang_runtime.nonsense  # noqa: B018


# ------------------------------------------------------------ texts
def test_conversations_are_read_as_their_contents() -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi there"}]
    assert row_texts({"messages": turns, "domain": "chat"}) == ("Hello", "Hi there", {"domain": "chat"})
    assert as_text([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]) == "a"
    with pytest.raises(DataError, match="not from the assistant"):
        row_texts({"messages": turns[:1]})
    with pytest.raises(DataError, match="usual shapes"):
        row_texts({"question": "?"})
    with pytest.raises(DataError, match="a text is needed"):
        as_text(3)


def test_statistics_are_those_of_the_checkers() -> None:
    policy = Policy.from_text(MIXED)
    texts = ["one", "one two three four", ""]
    found = policy.judge(texts, tags=[{"domain": "chat"}, {"domain": "wiki"}, {}])
    expected = statistics(sample_clauses(policy.compiled.ir), {"words": np.array([1.0, 4.0, 0.0])})
    assert (found.values == expected).all()
    names = [clause.name for clause in policy.clauses]
    assert found.inside[:, names.index("short")].tolist() == [True, True, True]
    assert found.inside[:, names.index("average")].tolist() == [True, False, False]


def test_a_policy_about_all_responses_decides_no_single_one() -> None:
    with pytest.raises(ConfigError, match="no statement of the policy is about single responses"):
        Policy.from_text("mean(words) < 3").satisfied(["one"])
    with pytest.raises(ConfigError, match="has no clause `shrot`; it has"):
        Policy.from_text(MIXED).reward_func("shrot")
    with pytest.raises(DataError, match="1 prompts and 2 completions"):
        Policy.from_text(MIXED).satisfied(["a", "b"], ["p"])


def test_an_unknown_score_is_no_success() -> None:
    text = "edition 1\nattribute kindness: score in [0, 1] higher_is_better\nkind: kindness > 0.5\n"
    policy = Policy.from_text(
        text, scorers={"kindness": lambda prompts, completions, **_: [None] * len(completions)}
    )
    assert policy.satisfied(["hello"]) == [False]
    with pytest.raises(ScorerError, match="has no score for 'hello'"):
        policy.reward_func()(["p"], ["hello"])


# ------------------------------------------------------------ datasets
@pytest.mark.parametrize("batched", [False, True])
def test_datasets_filter_keeps_what_satisfies(world: World, batched: bool) -> None:
    rows = load_rows([str(world.data)], role="data")
    policy = Policy.load(world.policy)
    kept = datasets.Dataset.from_list(rows).filter(policy.filter(), batched=batched).to_list()
    wanted = [
        row
        for row in rows
        if row["domain"] != "chat" or policy.pool.score([""], [row["completion"]])["toxicity"][0] < 0.1
    ]
    assert 0 < len(wanted) < len(rows)
    assert kept == wanted


def test_a_batch_of_conversations_is_told_from_one() -> None:
    keep = Policy.from_text("words <= 2").filter()
    short = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a b"}]
    long = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a b c"}]
    assert keep({"messages": short}) is True
    assert keep({"messages": [short, long]}) == [True, False]
    assert keep({"text": []}) == []


# ------------------------------------------------------------ rewards
def test_reward_is_minus_the_weighted_statistics() -> None:
    policy = Policy.from_text(MIXED)
    reward = policy.reward_func(weights={"short": 2.0})
    found = reward(["p", "q"], ["a b c d", "a"], domain=["chat", "wiki"])
    assert found == [-(2.0 * 1 + 0.25 * 4), 0.0]  # a mean of at most 2 words: λ starts at 1 / (2 · 2)
    by_name = {r.__name__: r for r in policy.reward_funcs()}
    assert by_name["average"](["p", "q"], ["a b c d", "a"], domain=["chat", "wiki"]) == [-1.0, None]


def test_conversational_completions_are_their_contents() -> None:
    reward = Policy.from_text("words <= 2").reward_func()
    turns = [[{"role": "assistant", "content": "a b c"}], [{"role": "assistant", "content": "a"}]]
    assert reward([[{"role": "user", "content": "q"}]] * 2, turns) == [-1.0, 0.0]


def test_adaptive_weights_rise_while_the_bound_is_missed_and_fall_below_it() -> None:
    reward = Policy.from_text("short: words <= 2 under tolerance=0.2").reward_func(adaptive=True)
    logged: dict[str, float] = {}
    for _ in range(8):
        reward(["p"] * 4, ["a b c"] * 4, log_metric=logged.__setitem__)
    high = reward.weights["short"]
    assert high > 1.5
    assert logged["constraint/short/value"] == 1.0
    assert logged["constraint/short/dual"] < high
    state = reward.state_dict()
    for _ in range(60):
        reward(["p"] * 20, ["a"] * 20)
    assert reward.weights["short"] < 0.1
    reward.load_state_dict(state)
    assert reward.weights["short"] == high


def test_a_mean_far_above_its_bound_raises_its_weight() -> None:
    reward = Policy.from_text("short: mean(words) <= 5").reward_func(adaptive=True)
    before = reward.weights["short"]
    for _ in range(4):
        assert reward(["p"] * 4, [" ".join(["w"] * 40)] * 4)[0] <= -40.0 * before
    assert reward.weights["short"] > before


def test_small_batches_that_obey_never_raise_a_weight() -> None:
    attribute = 'attribute at: flag { backend = regex(re"@") }\n'
    reward = Policy.from_text(
        attribute + "none: always not at\nfew: P(at) <= 1%\nshort: mean(words) <= 50"
    ).reward_func(adaptive=True)
    for _ in range(100):
        reward(["p"] * 8, ["a b"] * 8)
    weights = reward.weights
    assert weights["none"] == 1.0  # 800 replies do not tell whether it is one in a thousand
    assert weights["few"] < 1.0
    assert weights["short"] < 0.01  # where it starts
    for _ in range(2):
        reward(["p"] * 8, ["a @ b"] * 8)
    assert reward.weights["none"] > 1.0
    assert reward.weights["few"] > weights["few"]
    assert reward.weights["short"] <= weights["short"]


def test_what_a_reward_cannot_stand_for_is_refused() -> None:
    relative = Policy.from_text("a: words <= 9\nless: P(words > 2) <= 0.5 * base")
    with pytest.raises(ConfigError, match=r"`less` is relative to a base model"):
        relative.reward_func()
    assert relative.reward_func("a").__name__ == "a"
    tail = Policy.from_text("tail: cvar(words, 0.9) <= 10")
    with pytest.raises(ConfigError, match="does not tell where its tail is"):
        tail.reward_func(adaptive=True)
    assert tail.reward_func().weights == {"tail": 0.05}


def test_fixed_weights_stay() -> None:
    reward = Policy.from_text("short: words <= 2").reward_func(weights={"short": 3.0})
    reward(["p"], ["a b c"])
    assert reward.weights == {"short": 3.0}


@pytest.mark.parametrize(
    ("kind", "bound", "high"),
    [
        ("score in [0, 1]", 0.5, 1.0),
        ("score in [0, 100]", 50, 100.0),
        ("score in [20, 60]", 30, 40.0),
        ("count", 8, 16.0),
    ],
)
def test_a_clause_weighs_alike_whatever_the_unit_of_its_score(kind: str, bound: float, high: float) -> None:
    def grades(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [float(text) for text in completions]

    policy = Policy.from_text(
        f"attribute grade: {kind} lower_is_better\nlow: mean(grade) <= {bound}", scorers={"grade": grades}
    )
    low = 20.0 if "20" in kind else 0.0
    reward = policy.reward_func(adaptive=True)
    assert reward(["p"], [f"{low + high:g}"]) == [pytest.approx(-1.0)]
    for _ in range(200):  # none above: λ falls to 0 in as many calls, whatever the unit
        reward(["p"] * 8, [f"{low:g}"] * 8)
    assert reward.weights == {"low": 0.0}
    given = policy.reward_func(weights={"low": 500.0}, adaptive=True)
    for _ in range(2):
        given(["p"] * 400, [f"{low + high:g}"] * 400)
    assert given.weights == {"low": 500.0}  # no higher than what was given, and not cut to less


class _Trainer:
    """What TRL's trainers show of themselves: ``log_metric`` is a method of one that has a model."""

    def __init__(self, *, training: bool) -> None:
        self.model = torch.nn.Linear(1, 1).train(training)
        self.logged: dict[str, float] = {}

    def log_metric(self, name: str, value: float) -> None:
        self.logged[name] = value


def test_an_evaluation_moves_no_weight() -> None:
    reward = Policy.from_text("short: words <= 2").reward_func(adaptive=True)
    before = reward.state_dict()
    trainer = _Trainer(training=False)
    assert reward(["p"] * 400, ["a b c"] * 400, log_metric=trainer.log_metric) == [-1.0] * 400
    assert reward.state_dict() == before
    assert trainer.logged == {"constraint/short/value": 1.0, "constraint/short/dual": 1.0}
    reward(["p"] * 400, ["a b c"] * 400, log_metric=_Trainer(training=True).log_metric)
    assert reward.weights["short"] > 1.0


@pytest.mark.filterwarnings("ignore")  # of TRL's own
def test_grpo_takes_the_reward_functions(world: World, tmp_path: Path) -> None:
    """A run of TRL's own trainer on the tiny world: the rewards in its log are those of the policy."""
    trl = pytest.importorskip("trl", reason="TRL is not installed: pip install --group test")
    reward = Policy.load(world.policy).reward_func(adaptive=True)
    before = reward.state_dict()[
        "kind"
    ]  # of 134 completions, 5 / (0.75 · 5%), the first call brings the last four
    reward.load_state_dict({"kind": {**before, "window": [[0.0, 130.0]]}})
    seen: list[tuple[list[str], list[float | None]]] = []
    evaluated: list[bool] = []  # by call: whether λ and what it waits for stood still

    def watched(prompts: list[str], completions: list[str], **columns: Any) -> list[float | None]:
        earlier = reward.state_dict()
        found = reward(prompts, completions, **columns)
        if trainer.model.training:
            seen.append((completions, found))
        else:
            evaluated.append(reward.state_dict() == earlier)
        return found

    rows = [r for r in load_rows([str(world.prompts)], role="prompts") if r["domain"] == "chat"]
    config = trl.GRPOConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, num_generations=4,
        max_completion_length=8, report_to="none", use_cpu=True, bf16=False, save_strategy="no",
        disable_tqdm=True, logging_steps=1, beta=0.0, dataloader_pin_memory=False,
        eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=4,
    )  # fmt: skip
    tokenizer = load_tokenizer(str(world.model))
    tokenizer.padding_side = "left"
    trainer = trl.GRPOTrainer(
        load_model(str(world.model)), watched, args=config, processing_class=tokenizer,
        train_dataset=datasets.Dataset.from_list([{"prompt": r["prompt"], "domain": "chat"} for r in rows]),
        eval_dataset=datasets.Dataset.from_list([{"prompt": rows[0]["prompt"], "domain": "chat"}]),
    )  # fmt: skip
    trainer.train()
    assert len(seen) == 2
    assert evaluated == [True, True]
    judge = Policy.load(world.policy)
    logged = [record["reward"] for record in trainer.state.log_history if "reward" in record]
    lam, earlier = 1.0, 130
    for (completions, found), mean in zip(seen, logged, strict=True):
        broken = [not ok for ok in judge.satisfied(completions, tags=[{"domain": "chat"}] * 4)]
        assert found == pytest.approx([-lam * bad for bad in broken])
        assert mean == pytest.approx(np.mean(found), abs=1e-5)
        if earlier:
            lam, earlier = _moved(lam, sum(broken), earlier + len(broken)), 0
    assert reward.weights["kind"] == pytest.approx(lam)


def _moved(lam: float, violated: int, count: int) -> float:
    """One step of the controller, written out: λ + 0.1 · clip(logit r̂ - logit set-point, ±1.5), at least 0."""
    rate, point = (violated + 0.5) / (count + 1), 0.75 * 0.05
    error = np.log(rate / (1 - rate)) - np.log(point / (1 - point))
    return float(max(0.0, lam + 0.1 * np.clip(error, -1.5, 1.5)))


def test_a_weight_of_a_clause_that_is_not_rewarded() -> None:
    policy = Policy.from_text(MIXED)
    assert policy.reward_func("short", weights={"short": 3.0}).weights == {"short": 3.0}
    with pytest.raises(ConfigError, match="weights: `average` has a weight, and only `short` is rewarded"):
        policy.reward_func("short", weights={"average": 9.0})


def test_one_text_is_no_list_of_prompts(world: World) -> None:
    """Read letter by letter, it would be many prompts."""
    policy = Policy.from_text("short: words <= 3")
    model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
    calls = (
        lambda given: policy.generate(model, tokenizer, given),
        lambda given: policy.verify(model, given, tokenizer=tokenizer),
        lambda given: policy.guidance(model, tokenizer, given),
        lambda given: policy.callback(given),
    )
    for call in calls:
        with pytest.raises(DataError, match=r"(?s)prompts: got one text, expected a list.*write \[text\]"):
            call("anna asks")
        with pytest.raises(DataError, match="prompts: got one row, expected a list"):
            call({"prompt": "anna asks"})
    with pytest.raises(DataError, match="prompts: got one text"):
        policy.judge(["a", "b"], "ab")
    with pytest.raises(DataError, match="completions: got one text"):
        policy.judge("ab")


@pytest.mark.parametrize("form", ["numpy", "pandas", "arrow", "torch"])
def test_data_sets_of_every_format_are_filtered(form: str) -> None:
    texts = ["x y", "x y z w", "x"]
    turns = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": text}] for text in texts]
    keep = Policy.from_text("short: words <= 3").filter()
    for columns in ({"prompt": ["q"] * 3, "completion": texts, "n": [1, 2, 3]}, {"messages": turns}):
        rows = datasets.Dataset.from_dict(columns).with_format(form)
        for batched in (False, True):
            if batched or form != "arrow":  # which datasets itself does not filter row by row
                assert len(rows.filter(keep, batched=batched)) == 2
    with pytest.raises(DataError, match="got rows as int"):
        keep(3)  # type: ignore[arg-type]


# ------------------------------------------------------------ masks
def test_a_batch_padded_on_the_left_is_masked(tmp_path: Path) -> None:
    """From a compiled folder, whose word list is its own."""
    (tmp_path / "rude.txt").write_text("cat\n", encoding="utf-8")
    text = 'edition 1\nattribute rude: count { backend = lexicon("rude.txt") }\nkind: rude == 0 under tolerance=50%\n'
    (tmp_path / "p.policy").write_text(text, encoding="utf-8")
    compile_path(tmp_path / "p.policy").save(tmp_path / "built")
    (tmp_path / "rude.txt").unlink()
    policy = Policy.load(tmp_path / "built")
    tokenizer = word_tokenizer(["go", "on", "cat", "dog"], padding_side="left")
    model = tiny_llama(len(tokenizer))
    asked = tokenizer(["go", "go on go", "on go"], return_tensors="pt", padding=True)
    words: dict[bool, set[str]] = {}
    for masked in (False, True):
        torch.manual_seed(0)
        out = model.generate(
            input_ids=asked["input_ids"], attention_mask=asked["attention_mask"], do_sample=True, max_new_tokens=8,
            num_return_sequences=8, logits_processor=[policy.logits_processor(tokenizer)] if masked else [],
        )  # fmt: skip
        replies = tokenizer.batch_decode(out[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
        words[masked] = {word for reply in replies for word in reply.split()}
        assert all(policy.satisfied(replies)) == masked
    assert "cat" in words[False]
    assert words[True] >= {"go", "on", "dog"}


def test_a_list_in_the_place_of_the_policys_is_not_masked_by_the_policys(tmp_path: Path) -> None:
    (tmp_path / "rude.txt").write_text("cat\n", encoding="utf-8")
    (tmp_path / "other.txt").write_text("dog\n", encoding="utf-8")
    text = 'edition 1\nattribute rude: count { backend = lexicon("rude.txt") }\nkind: rude == 0\n'
    (tmp_path / "p.policy").write_text(text, encoding="utf-8")
    policy = Policy.load(tmp_path / "p.policy", scorers={"rude": str(tmp_path / "other.txt")})
    tokenizer = word_tokenizer(["go", "cat", "dog"])
    with pytest.raises(ConfigError, match="`rude` is measured by another scorer than the policy's"):
        policy.logits_processor(tokenizer)
    with pytest.raises(ConfigError, match="`rude` is measured by another scorer than the policy's"):
        policy.generate(tiny_llama(len(tokenizer)), tokenizer, ["go"], decoding="masked")


# ------------------------------------------------------------ metric
def test_a_metric_is_what_verification_says() -> None:
    policy = Policy.from_text(MIXED)
    texts, domains = ["one two three four", *["one"] * 59], ["chat"] * 60
    found = policy.metric().compute(texts, [f"p{i}" for i in range(60)], domain=domains)
    assert found["short"] == pytest.approx(1 / 60)
    assert found["average"] == pytest.approx((4 + 59) / 60)
    assert found["short/verdict"] == "inconclusive"  # one in sixty shows no rate below 5%
    assert found["average/verdict"] in ("holds", "inconclusive")
    assert 0 < found["short/lower"] < found["short"] < found["short/upper"] < 0.11
    assert found["satisfied"]
    worse = policy.metric().compute(["a b c d"] * 60, [f"p{i}" for i in range(60)], domain=domains)
    assert worse["short/verdict"] == "violated"
    assert not worse["satisfied"]


def test_a_metric_says_what_texts_do_not_decide() -> None:
    with pytest.raises(ConfigError, match="texts do not decide `fluent`"):
        Policy.from_text("fluent: preserve mean(perplexity) <= 1.02 * base\nwords < 9").metric().compute(
            ["a"], ["p"]
        )
    with pytest.raises(DataError, match="several completions"):
        Policy.from_text("words < 9").metric().compute(["a", "b"], ["p", "p"])
    with pytest.raises(DataError, match="predictions has 1 entries, prompts has 2"):
        Policy.from_text("words < 9").metric().compute(["a"], ["p", "q"])
    with pytest.raises(DataError, match="domain has 1 entries, prompts has 2"):
        Policy.from_text("words < 9").metric().compute(["a", "b"], ["p", "q"], domain=["chat"])


# ------------------------------------------------------------ assertions
def test_assert_satisfies_names_the_clause_and_a_text(world: World) -> None:
    model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
    prompts = [r["prompt"] for r in load_rows([str(world.prompts)], role="prompts")]
    found = assert_satisfies(
        model, Policy.from_text("few: words <= 1000"), prompts, tokenizer=tokenizer, max_new_tokens=6
    )
    assert found.verdicts[0].verdict != "violated"
    with pytest.raises(AssertionError, match=r"(?s)none: violated, violation rate .*worst: '"):
        assert_satisfies(
            model, Policy.from_text("none: words <= 1"), prompts, tokenizer=tokenizer, max_new_tokens=6
        )
    with pytest.raises(AssertionError, match=r"never: inconclusive.*samples alone cannot show"):
        assert_satisfies(
            model, Policy.from_text("never: always words <= 1000"), prompts, tokenizer=tokenizer,
            max_new_tokens=6, require_holds=True,
        )  # fmt: skip
    with pytest.raises(AssertionError, match="few: inconclusive"):
        assert_satisfies(
            model, Policy.from_text("few: words <= 1000 under tolerance=0.1%"), prompts[:5],
            tokenizer=tokenizer, max_new_tokens=6, require_holds=True,
        )  # fmt: skip


def test_verify_is_eval_in_memory(world: World, tmp_path: Path) -> None:
    """The verdicts, losses and samples of `constraintc eval`; an id of each row makes no evidence of its own."""
    flags = ["--model", str(world.model), "--base", str(world.model), "--max_new_tokens", "6", "--seed", "3"]
    flags += [
        "--prompts",
        str(world.prompts),
        "--rows",
        f"wiki={world.data}",
        "--output",
        str(tmp_path / "eval"),
    ]
    own = tmp_path / "own.policy"
    own.write_text(
        f"{world.policy.read_text()}fluent: preserve mean(perplexity) <= 1.5 * base for domain=wiki\n"
    )
    shutil.copy(world.policy.with_name("words.tsv"), tmp_path)
    assert main(["eval", str(own), *flags]) in (0, 1)
    model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
    prompts = load_rows([str(world.prompts)], role="prompts")
    twice = [{**row, "id": number} for row in prompts for number in (1, 2)]
    found = Policy.load(own).verify(
        model.train(), twice, tokenizer=tokenizer, base=model, max_new_tokens=6, seed=3,
        rows={"wiki": load_rows([f"wiki={world.data}"], role="rows")},
    )  # fmt: skip
    shown = repr(found)
    assert all(f"\n  {verdict.clause}: {verdict.verdict}, " in shown for verdict in found.verdicts)
    assert shown.count("\n") == len(found.verdicts)  # no text of a sample
    found.save(tmp_path / "verify")
    one, other = (json.loads((tmp_path / name / "verdict.json").read_text()) for name in ("eval", "verify"))
    assert one["clauses"] == other["clauses"]
    assert len(one["clauses"]) > 1
    assert {key: one[key] for key in ("losses", "degeneracy", "sampling", "policy", "num_prompts")} == {
        key: other[key] for key in ("losses", "degeneracy", "sampling", "policy", "num_prompts")
    }
    assert (tmp_path / "eval" / "samples.jsonl").read_text() == (
        tmp_path / "verify" / "samples.jsonl"
    ).read_text()
    assert model.training


def test_what_verify_lacks_is_named_as_python_writes_it(world: World) -> None:
    policy = Policy.from_text("fluent: preserve mean(perplexity) <= 1.5 * base for domain=wiki\nwords <= 9")
    model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
    with pytest.raises(ConfigError, match=r"in Python base="):
        policy.verify(model, ["the garlic"], tokenizer=tokenizer)
    with pytest.raises(ConfigError, match=r"in Python rows="):
        policy.verify(model, ["the garlic"], tokenizer=tokenizer, base=model)
    with pytest.raises(ConfigError, match=r"(?s)rows is a list.*rows=\{"):
        policy.verify(model, ["the garlic"], tokenizer=tokenizer, base=model, rows=[{"text": "a b"}])


def test_a_prompt_outside_every_domain_is_an_error(world: World) -> None:
    with pytest.raises(DataError, match="no prompt lies in the domain"):
        assert_satisfies(
            load_model(str(world.model)), Policy.load(world.policy), ["the garlic"],
            tokenizer=load_tokenizer(str(world.model)), max_new_tokens=2,
        )  # fmt: skip


def test_a_reward_is_a_policy_reward() -> None:
    assert isinstance(Policy.from_text("words <= 2").reward_func(), PolicyReward)


def test_a_filter_that_judges_nothing_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    keep = Policy.from_text("words <= 2 for domain=chat").filter()
    rows = {"prompt": ["p"] * 20, "completion": ["one two three"] * 20, "domain": ["Chat"] * 20}
    for _ in range(5):
        assert keep(rows) == [True] * 20
    assert caplog.text.count("lies in a domain of the policy (chat)") == 1
    caplog.clear()
    other = Policy.from_text("words <= 2 for domain=chat").filter()
    other({**rows, "domain": ["chat"] + ["Chat"] * 19})
    for _ in range(5):
        other(rows)
    assert not caplog.text


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(DataError, match="expected a list"):
        Policy.from_text("words <= 2").satisfied("one two three")


def test_its_text_says_which_policy_it_is(tmp_path: Path) -> None:
    (tmp_path / "my.policy").write_text(
        "edition 1\nshort: words <= 3 for domain=chat\nwhole: mean(words) <= 9\n"
    )
    assert repr(Policy.load(tmp_path / "my.policy")) == (
        f"Policy({str(tmp_path / 'my.policy')!r}, clauses=['short', 'whole'], domains=['chat'])"
    )


def test_verify_shows_its_parameters() -> None:
    from constraintlang_runtime.integrations.verifying import verify

    own, theirs = (inspect.signature(function).parameters for function in (Policy.verify, verify))
    assert [(p.name, p.kind, p.default) for p in list(own.values())[1:]] == [
        (p.name, p.kind, p.default) for p in list(theirs.values())[1:]
    ]


def test_errors_name_the_parameter_of_python() -> None:
    text = "edition 1\nkind: toxicity < 0.1\n"
    for scorers in ({"toxicty": "words.txt"}, {"toxicty": print}, {"toxicity": ""}, {"toxicity": 3}):
        with pytest.raises(ConfigError, match=r"^scorers: ") as caught:
            Policy.from_text(text, scorers=scorers)  # type: ignore[arg-type]
        assert caught.value.parameter == "scorers"
    with pytest.raises(DataError, match=r"^data: no file"):
        load_rows("nowhere.jsonl")


def test_unknown_settings_of_generation_are_told_apart() -> None:
    policy = Policy.from_text("short: words <= 3")
    with pytest.raises(ConfigError, match="generate has no setting `decodin`") as caught:
        policy.generate(None, None, [], decodin="plain")
    assert caught.value.help == "a similar setting exists: `decoding`"
    with pytest.raises(ConfigError, match="guidance has no setting `rate_of`"):
        policy.guidance(None, None, [], rate_of=3)
