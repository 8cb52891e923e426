"""The protocols of the paper's tables: figures against hand computations, and a whole measurement of a random model."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_judge import FakeServer, serving
from tiny_models import World, write_classifier, write_jsonl

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "paper"))  # its files import each other by plain name

pytest.importorskip(
    "sklearn", reason="SKIPPED ALOUD: scikit-learn is not installed, so no protocol is tested"
)

import audit  # noqa: E402
import choices  # noqa: E402
import intervals  # noqa: E402
import judge  # noqa: E402
import judge_likelihood  # noqa: E402
import judge_llm  # noqa: E402
import losses  # noqa: E402
import measures  # noqa: E402
import protocol_data  # noqa: E402
import texts  # noqa: E402
import toxicity  # noqa: E402
import win_rates  # noqa: E402
from job import Job, Scale, Trained  # noqa: E402

from constraintlang_runtime.demo import language  # noqa: E402
from constraintlang_runtime.errors import ConfigError, DataError, ScorerError  # noqa: E402
from constraintlang_runtime.scorers import calling  # noqa: E402
from constraintlang_runtime.scorers.judge_settings import KEYS, JudgeSettings  # noqa: E402

NAN = math.nan


# ------------------------------------------------------------ figures
def test_a_rate_has_the_exact_interval_of_scipy() -> None:
    from scipy.stats import binomtest

    found = intervals.rate([True] * 3 + [False] * 37)
    exact = binomtest(3, 40).proportion_ci(0.95, method="exact")
    assert found["mean"] == pytest.approx(3 / 40)
    assert (found["low"], found["high"]) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_the_bootstrap_resamples_units_and_agrees_with_the_normal_interval_of_many() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, 1_500)
    found = intervals.bootstrap(values, seed=1)
    half = intervals.NORMAL * values.std() / math.sqrt(len(values))
    assert found["mean"] == pytest.approx(values.mean())
    assert found["high"] - found["mean"] == pytest.approx(half, rel=0.1)
    assert found["mean"] - found["low"] == pytest.approx(half, rel=0.1)
    assert intervals.bootstrap(values, seed=1) == found
    assert intervals.bootstrap([0.25] * 9, seed=1)["low"] == 0.25


def test_resamples_in_chunks_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "CHUNK", 30)
    assert len(intervals.resampled_means(np.arange(7.0), 0)) == intervals.RESAMPLES


def test_nats_per_token_weigh_tokens_and_rows_are_the_units() -> None:
    found = intervals.per_token([2.0, 6.0, 1.0], [1, 3, 2])
    loss = 9 / 6
    spread = ((2 - loss) ** 2 + (6 - 3 * loss) ** 2 + (1 - 2 * loss) ** 2) * 3 / 2
    assert found["mean"] == pytest.approx(loss)
    assert found["high"] - found["mean"] == pytest.approx(1.959964 * math.sqrt(spread) / 6, rel=1e-5)


def test_expected_maximum_any_toxic_and_worst_decile_by_hand() -> None:
    scores = np.array(
        [[0.1, 0.9, 0.2, 0.0], [0.3, 0.2, 0.4, 0.1], [0.5, 0.0, 0.0, 0.0], [0.0, 0.1, 0.7, 0.8]]
    )
    found = toxicity.summary_of_worst(scores, seed=0)
    assert found["expected_maximum"]["mean"] == pytest.approx((0.9 + 0.4 + 0.5 + 0.8) / 4)
    assert found["any_toxic"]["mean"] == pytest.approx(3 / 4)
    assert found["toxic"]["mean"] == pytest.approx((1 / 4 + 0 + 1 / 4 + 2 / 4) / 4)
    assert found["worst_decile"]["mean"] == pytest.approx(0.1)  # chosen: the first prompt; reported: 0.2, 0.0


def test_shares_count_from_the_threshold_on_and_say_what_silence_hides() -> None:
    said = ["bad words here", "", "fine", "  "]
    found = toxicity.summary_of_shares(said, [0.5, 0.1, 0.49, 0.0], [["a"], ["a", "b"], ["b"], [""]], seed=0)
    assert found["toxic"]["mean"] == 1 / 4
    assert found["toxic_of_nonempty"] == intervals.rate([True, False])
    assert found["worst_decile"] == 0.5
    assert found["empty"] == 1 / 2
    assert found["groups"] == {}


def test_target_groups_of_a_statement_that_names_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toxicity, "SMALLEST_GROUP", 2)
    found = toxicity.summary_of_shares(["x"] * 3, [0.9, 0.1, 0.2], [["a"], ["a", "b"], ["c"]], seed=0)
    assert {name: one["mean"] for name, one in found["groups"].items()} == {"a": 0.5}


def test_distinct_words_by_hand() -> None:
    found = texts.shape(["a b a b", "a b c", ""])
    assert found["distinct_1"] == 3 / 7
    assert found["distinct_2"] == 3 / 5  # ab ba ab, ab bc
    assert found["distinct_3"] == 3 / 3  # aba bab, abc
    assert found["mean_words"] == 7 / 3
    assert texts.distinct(["a"], 2) is None


# ------------------------------------------------------------ drawing
def test_the_nucleus_is_that_of_transformers() -> None:
    import torch
    from nucleus import FIRST, Nucleus
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

    generator = torch.Generator().manual_seed(0)
    for scale, temperature, top_p in ((0.3, 1.0, 0.9), (3.0, 1.0, 0.9), (3.0, 0.1, 0.9), (1.0, 0.5, 0.5)):
        logits = torch.randn(16, FIRST + 500, generator=generator) * scale
        heat = TemperatureLogitsWarper(temperature)
        own = heat(None, Nucleus(top_p, temperature)(torch.empty(0), logits))
        theirs = TopPLogitsWarper(top_p)(None, heat(None, logits))
        assert int((own.isinf() != theirs.isinf()).sum()) <= 1  # a token at the very edge, by rounding


# ------------------------------------------------------------ win rates
def test_wins_ties_and_losses_are_counted_both_ways() -> None:
    outcomes = {
        ("a", "b"): [np.array([1.0, 0.5, 0.0, 1.0])],
        ("a", "c"): [np.array([1.0, 1.0, 1.0, NAN])],
        ("b", "c"): [np.array([0.5, 0.5, 0.5, 0.5])],
    }
    found = win_rates.win_rates(["a", "b", "c"], outcomes, seed=0)
    a_b, b_a = found["matrix"]["a"]["b"], found["matrix"]["b"]["a"]
    assert (a_b["wins"], a_b["ties"], a_b["losses"], a_b["mean"]) == (2, 1, 1, 2.5 / 4)
    assert (b_a["wins"], b_a["ties"], b_a["losses"], b_a["mean"]) == (1, 1, 2, 1.5 / 4)
    assert b_a["low"] <= b_a["mean"] <= b_a["high"]
    assert a_b["low"] == pytest.approx(1 - b_a["high"])
    assert found["matrix"]["c"]["a"]["unjudged"] == 1
    assert found["matrix"]["c"]["a"]["mean"] == 0
    assert found["all"]["a"]["mean"] == pytest.approx((1 + 0.75 + 0.5 + 1.0) / 4)  # the last prompt: b alone
    assert "a" not in found["matrix"]["a"]


def test_a_pair_that_was_never_judged_has_no_rate() -> None:
    found = win_rates.win_rates(["a", "b"], {("a", "b"): [np.array([NAN, NAN])]}, seed=0)
    assert found["matrix"]["a"]["b"]["mean"] is None
    assert found["all"]["b"]["mean"] is None


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [(1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5), (1, 0, 0.5), (0, 1, 0.5), (1, 0.5, 0.5), (NAN, 1, NAN)],
)
def test_only_what_both_orders_say_counts(first: float, second: float, outcome: float) -> None:
    assert win_rates.of_both_orders(first, second) == pytest.approx(outcome, nan_ok=True)


def test_likelihoods_within_the_margin_tie_and_silence_loses() -> None:
    own, other = np.array([-1.0, -1.0, -np.inf, -np.inf, -3.0]), np.array([-1.04, -2.0, -9.0, -np.inf, -1.0])
    assert win_rates.by_margin(own, other, 0.05).tolist() == [0.5, 1.0, 0.0, 0.5, 0.0]


def test_a_rate_of_several_seeds_has_their_spread_in_its_interval() -> None:
    seeds = [np.repeat([1.0, 0.0], [wins, 1_000 - wins]) for wins in (450, 500, 550)]
    found = win_rates.win_rates(["a", "b"], {("a", "b"): seeds}, seed=0)
    between = 4.302652729911275 * 0.05 / 3**0.5  # t of two degrees of freedom
    for figure in (found["matrix"]["a"]["b"], found["all"]["a"]):
        assert figure["seeds"] == pytest.approx([0.45, 0.5, 0.55])
        assert figure["mean"] == pytest.approx(0.5)
        assert between < figure["high"] - figure["mean"] < 1.1 * between
        assert between < figure["mean"] - figure["low"] < 1.1 * between
    assert found["matrix"]["b"]["a"]["wins"] == 1_500
    far = win_rates.win_rates(["a", "b"], {("a", "b"): [np.ones(9), np.zeros(9)]}, seed=0)["all"]["a"]
    assert (far["mean"], far["low"], far["high"]) == (0.5, 0.0, 1.0)


def test_a_rate_against_all_is_of_the_seeds_that_all_have() -> None:
    many, one = [np.ones(4), np.ones(4)], [np.zeros(4)]
    found = win_rates.win_rates(["a", "b", "c"], {("a", "b"): many, ("a", "c"): one}, seed=0)
    assert found["matrix"]["a"]["b"]["seeds"] == [1.0, 1.0]
    assert found["all"]["a"]["seeds"] == [0.5]


# ------------------------------------------------------------ a judge behind an endpoint
def two_texts(body: dict[str, Any]) -> tuple[str, str]:
    content = body["messages"][-1]["content"]
    found = re.search(
        r"\[TEXT 1 (\w+)\]\n(.*)\n\[END OF TEXT 1 \1\]\n\[TEXT 2 \1\]\n(.*)\n\[END OF TEXT 2 \1\]",
        content,
        re.DOTALL,
    )
    assert found is not None, content
    return found[2], found[3]


def longer(text: str, body: dict[str, Any]) -> str:
    first, second = two_texts(body)
    return json.dumps({"score": 1 if len(first) > len(second) else 0 if len(first) < len(second) else 0.5})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "FIRST_PAUSE", 0.002)
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


def outcomes_of(server: FakeServer, cache: Path) -> list[float]:
    found = judge_llm.PairJudge(JudgeSettings(server.url, "m"), cache)
    own, other = (
        ["a long text", "no", "same", "b]d", "four"],
        ["short", "a long text", " same", "a\nc", "here"],
    )
    return found.outcomes(["p"] * 5, own, other).tolist()


@pytest.mark.usefixtures("quick")
def test_a_judge_of_texts_is_heard_and_its_answers_are_kept(tmp_path: Path) -> None:
    with serving(FakeServer(longer)) as server:
        assert outcomes_of(server, tmp_path) == [1.0, 0.0, 0.5, 0.5, 0.5]
        asked = len(server.bodies)
        assert asked == 8  # the texts that are the same are not asked about
        outcomes_of(server, tmp_path)
        assert len(server.bodies) == asked


@pytest.mark.usefixtures("quick")
def test_a_judge_that_prefers_the_first_place_decides_nothing(tmp_path: Path) -> None:
    with serving(FakeServer(lambda text, body: '{"score": 1}')) as server:
        assert outcomes_of(server, tmp_path) == [0.5] * 5


@pytest.mark.usefixtures("quick")
def test_a_judge_that_says_nonsense_leaves_pairs_unjudged(tmp_path: Path) -> None:
    with serving(FakeServer(lambda text, body: "TEXT 1, of course")) as server:
        assert outcomes_of(server, tmp_path) == pytest.approx([NAN, NAN, 0.5, NAN, NAN], nan_ok=True)


@pytest.mark.usefixtures("quick")
def test_a_wrong_key_ends_the_judging(tmp_path: Path) -> None:
    with serving(FakeServer(longer, key="secret")) as server, pytest.raises(ScorerError, match="401"):
        outcomes_of(server, tmp_path)


# ------------------------------------------------------------ the audit scorer
def write_corpora(shared: Path) -> Path:
    """Corpora of a few rows each, in the form of the real ones."""
    import pyarrow
    from pyarrow import parquet

    data = shared / "data"
    data.mkdir(parents=True)

    def put(name: str, rows: list[dict[str, Any]]) -> None:
        parquet.write_table(pyarrow.Table.from_pylist(rows), data / f"{name}.parquet")

    safe = [
        {"source": "safenlp", "text": f" statement {i} is {'vile' if i % 3 == 0 else 'good'}", "toxic": int(i % 3 == 0),
         "target_group": "women|asian" if i % 2 else "women"}
        for i in range(30)
    ]  # fmt: skip
    put(
        "toxigen", [*safe, {"source": "annotated", "text": "trained on", "toxic": 0, "target_group": "women"}]
    )
    labelled = [
        {"text": f"row {i} {'vile scum' if i % 2 else 'a good day'}", "toxic": i % 2} for i in range(60)
    ]
    put("jigsaw", [*labelled, {"text": "statement 1 is good", "toxic": 1}])
    put("hate", [*labelled[:5], {"text": "unlabelled", "toxic": None}])
    put("rtp", [{"prompt": f"So prompt {i} "} for i in range(9)] * 2)
    article = " ".join(f"word{i}" for i in range(200))
    put("wikitext", [{"split": "test", "text": article}, {"split": "train_prefix", "text": "seen " * 100}])
    put("lambada", [{"context": f"the context {i} ends with the", "target": "word"} for i in range(7)])
    choice = {"context": None, "split": "validation", "choices": ["one", "two"], "answer": 1}
    put(
        "mc_eval",
        [
            {**choice, "task": "boolq", "context": "A passage.", "question": "is it so?"},
            {**choice, "task": "winogrande", "question": "Ann was late so _ ran home."},
            {**choice, "task": "hellaswag_1k", "question": "He went"},
            {**choice, "task": "piqa", "question": "How?"},
            {**choice, "task": "mmlu/college_law", "split": "test", "question": " Which?"},
            {**choice, "task": "mmlu/college_law", "split": "dev", "question": "An example"},
        ],
    )
    return shared


def test_the_audit_scorer_never_trains_on_a_prompt_and_is_saved_without_pickle(tmp_path: Path) -> None:
    found = audit.prepare_audit(write_corpora(tmp_path / "shared"), tmp_path)
    assert found.facts["trained_on"] == 54  # of 60 distinct labelled texts, a tenth kept out
    assert found.facts["roc_auc_held_out"] == 1.0
    assert found.facts["roc_auc_safenlp"] == 1.0
    scores = found.scores(["you vile scum", "have a good day", ""])
    assert scores[0] > 0.5 > scores[1]
    again = audit.NgramClassifier.load(tmp_path / "evaluation" / "audit.npz")
    assert again.scores(["you vile scum", "have a good day", ""]) == pytest.approx(scores)
    assert again.facts == found.facts


# ------------------------------------------------------------ files of the protocols
def scale_of(model: Path, classifier: Path) -> Scale:
    return Scale(
        name="smoke", models={"llama": str(model)}, classifier=f"{classifier}#toxic", bound=0.1, steps=1, batch_size=2,
        learning_rate=1e-3, max_length=32, max_new_tokens=8, oracle_calls=8, toxigen_prompts=6, rtp_prompts=3,
        rtp_samples=4, choice_questions=50, choice_shots=0, seeds=1,
    )  # fmt: skip


def test_protocols_read_held_out_rows_alone(tmp_path: Path) -> None:
    scale = scale_of(tmp_path, tmp_path)
    shared = write_corpora(tmp_path / "shared")
    folder = protocol_data.write_protocols(shared, scale, tmp_path)

    def rows(name: str) -> list[dict[str, Any]]:
        return protocol_data.read_rows(tmp_path, name)

    assert len(rows("toxigen.jsonl")) == 6
    assert all(re.fullmatch(r"statement \d+ is \w+", row["text"]) for row in rows("toxigen.jsonl"))
    assert {group for row in rows("toxigen.jsonl") for group in row["groups"]} == {"women", "asian"}
    assert len({row["text"] for row in rows("rtp.jsonl")}) == 3
    assert all(row["text"].endswith("good") for row in rows("compliant.jsonl"))
    assert all("seen" not in row["text"] for row in rows("neutral.jsonl"))
    by_task = {task: rows(f"choices_{task}.jsonl") for task in protocol_data.TASKS}
    assert by_task["boolq"][0]["question"] == "A passage.\nQuestion: is it so?\nAnswer:"
    assert by_task["winogrande"] == [
        {"question": 1, "choices": ["Ann was late so one", "Ann was late so two"], "answer": "ran home."}
    ]
    (mmlu,) = by_task["mmlu"]
    assert mmlu["question"].endswith("about college law.\n\nWhich?\nA. one\nB. two\nAnswer:")
    assert mmlu["choices"] == ["A", "B"]
    before = (folder / "rtp.jsonl").stat().st_mtime_ns
    protocol_data.write_protocols(shared, scale, tmp_path)
    assert (folder / "rtp.jsonl").stat().st_mtime_ns == before
    protocol_data.write_protocols(shared, replace(scale, rtp_prompts=5), tmp_path)
    assert len(rows("rtp.jsonl")) == 5


def test_a_missing_corpus_and_missing_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no corpus"):
        protocol_data.write_protocols(tmp_path, scale_of(tmp_path, tmp_path), tmp_path)
    with pytest.raises(DataError, match="holds what the protocols ask"):
        protocol_data.read_rows(tmp_path, "rtp.jsonl")


def test_a_group_of_tasks_is_one_accuracy_with_the_chance_of_its_questions() -> None:
    def logged(right: list[int], count: int) -> list[dict[str, Any]]:
        return [
            {"doc_id": i, "acc": float(hit), "filter": "none", "arguments": [0] * count, "metrics": ["acc"]}
            for i, hit in enumerate(right)
        ]

    answers = {"s1": logged([1, 0, 1], 4), "s2": logged([0], 2)}
    results = {
        "results": {
            task: {"acc,none": sum(one["acc"] for one in rows) / len(rows), "acc_stderr,none": 0.1}
            for task, rows in answers.items()
        },
        "samples": answers,
        "configs": {task: {"output_type": "multiple_choice"} for task in answers},
        "n-samples": {task: {"effective": len(rows)} for task, rows in answers.items()},
        "n-shot": dict.fromkeys(answers, 5),
    }
    found = choices._figure(results, "mmlu", "acc")
    assert found["mean"] == 2 / 4
    assert found["chance"] == pytest.approx((3 / 4 + 1 / 2) / 4)
    assert (found["n"], found["shots"]) == (4, 5)


# ------------------------------------------------------------ a whole measurement
@pytest.fixture(scope="module")
def job(world: World, tmp_path_factory: pytest.TempPathFactory) -> Job:
    work = tmp_path_factory.mktemp("paper")
    scale = scale_of(world.model, write_classifier(work / "classifier", ("neutral", "toxic")))
    write_corpora(work / "shared")
    measures.prepare(work / "shared", scale, work)
    words = language.vocabulary()
    prompts = [{"text": " ".join(words[i : i + 3]), "domain": "toxigen", "groups": ["a"]} for i in range(6)]
    for name in ("toxigen", "rtp", "neutral", "compliant"):  # in words that the tiny model knows
        write_jsonl(work / "evaluation" / f"{name}.jsonl", prompts)
    lambada = [{"context": " ".join(words[i : i + 5]), "target": words[i]} for i in range(6)]
    write_jsonl(work / "evaluation" / "lambada.jsonl", lambada)
    files = work / "files"
    return Job(scale, "plain", "llama", 0, files, files, files, work)


PARTS = ("toxigen", "toxigen_t1", "rtp", "losses", "audit")


@pytest.fixture(scope="module")
def trained(world: World) -> Trained:
    return Trained(str(world.model), 1.0, 1.0, 0, 0, 0)


@pytest.fixture(scope="module")
def found(job: Job, trained: Trained) -> dict[str, Any]:
    return measures.measure(job, trained, job.folder / "measures", PARTS)


def test_a_measurement_has_every_figure_and_every_sample(job: Job, found: dict[str, Any]) -> None:
    folder = job.folder / "measures"
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert all(set(row) == {"prompt", "completion", "score", "seed", "protocol"} for row in samples)
    by_protocol = {name: [row for row in samples if row["protocol"] == name] for name in measures.SAMPLED}
    assert {name: len(rows) for name, rows in by_protocol.items()} == {
        "toxigen": 6,
        "toxigen_t1": 6,
        "rtp": 24,
    }
    assert found["toxicity"]["mean"] == sum(row["score"] >= 0.5 for row in by_protocol["toxigen"]) / 6
    table = np.array([row["score"] for row in by_protocol["rtp"]]).reshape(6, 4)
    assert found["rtp"]["expected_maximum"]["mean"] == pytest.approx(table.max(axis=1).mean())
    assert found["audit"]["rtp"]["toxic"]["n"] == 6
    assert json.loads((folder / "measures.json").read_text()) == found


def test_losses_are_those_of_the_model(world: World, job: Job, found: dict[str, Any]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(world.model),
        AutoTokenizer.from_pretrained(world.model),
    )
    total = []
    for row in protocol_data.read_rows(job.work, "lambada.jsonl"):
        before, word = tokenizer(row["context"])["input_ids"], tokenizer(" " + row["target"])["input_ids"]
        with torch.no_grad():
            law = model(torch.tensor([before + word])).logits[0].log_softmax(-1)
        total.append(-sum(float(law[len(before) - 1 + k, token]) for k, token in enumerate(word)))
    assert found["lambada_loss"]["mean"] == pytest.approx(np.mean(total), rel=1e-5)


def test_a_finished_protocol_is_not_repeated_and_one_of_another_model_is(
    job: Job, trained: Trained, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = job.folder / "measures"

    def refuse(*args: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(measures, "measure_losses", refuse)
    monkeypatch.setattr(measures, "measure_rtp", refuse)
    assert measures.measure(job, trained, folder, PARTS) == found
    with pytest.raises(AssertionError, match="measured again"):
        measures.measure(job, replace(trained, seconds=2.0), folder, ("losses",))


def test_an_unknown_protocol_is_refused(job: Job, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="toxigan"):
        measures.measure(job, trained, tmp_path, ("toxigan",))


def test_paired_differences_to_plain_are_narrower_than_the_losses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(5, 20, 50).astype(float)
    base = counts * rng.normal(4.0, 1.0, 50)
    for name, sums in (("plain", base), ("ours", base + 0.1 * counts)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "losses.npz", neutral_loss=sums, neutral_loss_tokens=counts)
    found = losses.differences(tmp_path / "ours", tmp_path / "plain")["neutral_loss"]
    assert found["mean"] == pytest.approx(0.1)
    assert found["high"] - found["low"] == pytest.approx(0.0, abs=1e-9)
    assert losses.differences(tmp_path / "ours", tmp_path / "nothing") == {}


def test_a_guided_row_is_sampled_with_its_guide(
    job: Job, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    class OneWord:
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            forced = torch.full_like(scores, -math.inf)
            forced[:, 7] = 0.0
            return forced

    @contextlib.contextmanager
    def attach(job: Job, trained: Trained, model: Any) -> Iterator[list[Any]]:
        assert trained.guide == "guide"
        yield [OneWord()]

    module = types.ModuleType("guided")
    module.attach = attach  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "guided", module)
    measures.measure(job, replace(trained, guide="guide"), tmp_path, ("toxigen",))
    said = {row["completion"] for row in measures.read_samples(tmp_path, "toxigen")}
    assert len(said) == 1
    assert len(set(said.pop().split())) == 1


# ------------------------------------------------------------ the table of win rates
def write_samples(folder: Path, completions: list[str]) -> Path:
    folder.mkdir(parents=True)
    words = language.vocabulary()
    rows = [{"prompt": words[i], "completion": text, "score": 0.0} for i, text in enumerate(completions)]
    write_jsonl(folder / "toxigen.samples.jsonl", rows)
    return folder


def test_the_likelihood_judge_prefers_what_its_model_finds_likelier(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(world.model),
        AutoTokenizer.from_pretrained(world.model),
    )
    words, best, worst = language.vocabulary(), [], []
    for prompt in words[:3]:
        with torch.no_grad():
            law = model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1]
        ranked = [token for token in law.argsort().tolist() if token > 2]
        worst.append(tokenizer.decode(ranked[0]))
        best.append(tokenizer.decode(ranked[-1]))
    own = [write_samples(tmp_path / "w" / "llama" / f"ours-{k}" / "measures", best) for k in range(2)]
    folders = {
        "ours": own,
        "plain": [write_samples(tmp_path / "w" / "llama" / "plain-0" / "measures", worst)],
        "silent": [write_samples(tmp_path / "w" / "llama" / "silent-0" / "measures", ["", " ", ""])],
    }
    scale = scale_of(world.model, tmp_path)
    found = judge.winrate(folders, scale, tmp_path / "w")
    assert found["llm"] == {"measured": False, "what": "not measured: no endpoint was given"}
    rates = {name: rate["mean"] for name, rate in found["likelihood"]["all"].items()}
    assert rates == {"ours": 1.0, "plain": 0.5, "silent": 0.0}
    spoken = {name: rate["mean"] for name, rate in found["likelihood"]["spoken"]["all"].items()}
    assert spoken == {"ours": 1.0, "plain": 0.0, "silent": None}

    def refuse(*args: Any) -> Any:
        raise AssertionError("judged again")

    monkeypatch.setattr(judge_likelihood.LikelihoodJudge, "scores", refuse)
    assert judge.winrate(folders, scale, tmp_path / "w") == found


@pytest.mark.usefixtures("quick")
def test_the_table_by_an_endpoint(world: World, tmp_path: Path) -> None:
    words = language.vocabulary()
    folders = {
        "ours": [write_samples(tmp_path / "llama" / "ours-0" / "measures", [f"{words[5]} {words[6]}"] * 3)],
        "plain": [write_samples(tmp_path / "llama" / "plain-0" / "measures", [words[5]] * 3)],
    }
    with serving(FakeServer(longer)) as server:
        found = judge.winrate(
            folders,
            scale_of(world.model, tmp_path),
            tmp_path,
            endpoint=JudgeSettings(server.url, "m"),
            llm_prompts=2,
        )
        assert len(server.bodies) == 4  # two prompts, both orders
    assert found["llm"]["matrix"]["ours"]["plain"]["wins"] == 2


def test_systems_on_other_prompts_are_not_compared(world: World, tmp_path: Path) -> None:
    folders = {"a": [write_samples(tmp_path / "a", ["x"])], "b": [write_samples(tmp_path / "b", ["x", "y"])]}
    with pytest.raises(DataError, match="other prompts"):
        judge.winrate(folders, scale_of(world.model, tmp_path), tmp_path)
    with pytest.raises(DataError, match="at least 2"):
        judge.winrate({"a": folders["a"]}, scale_of(world.model, tmp_path), tmp_path)
