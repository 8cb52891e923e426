"""The Jigsaw table: no held-out comment is trained on, labels in words, the ROC curve, a whole row."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny_llama, word_tokenizer, write_classifier, write_jsonl
from tiny_tokenizers import END, byte_level_bpe

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "paper"))  # its files import each other by plain name

pytest.importorskip(
    "sklearn", reason="SKIPPED ALOUD: scikit-learn is not installed, so the Jigsaw table is not tested"
)

import jigsaw  # noqa: E402
import jigsaw_data  # noqa: E402
import roc  # noqa: E402
import row  # noqa: E402
from job import Job, Scale, Trained, config_of  # noqa: E402
from scales import NAMES, POLICY, TRAIN  # noqa: E402

from constraintlang_runtime.data import encode_rows  # noqa: E402
from constraintlang_runtime.demo import language  # noqa: E402
from constraintlang_runtime.errors import ConfigError, DataError  # noqa: E402

DEV, TEST = ("jigsaw_sentences_snlp", "dev"), ("jigsaw_sentences_snlp", "test")


def comment(text: str, toxic: int | None, where: tuple[str, str] = DEV) -> dict[str, Any]:
    return {"source": where[0], "split": where[1], "text": text, "toxic": toxic}


def bytes_tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(), eos_token=END, pad_token=END)


# ------------------------------------------------------------ comments
def test_no_comment_that_is_held_out_is_trained_on() -> None:
    rows = [
        comment("You  are kind", 0), comment("you are KIND", 0, TEST),
        comment("both labels", 0), comment("Both labels ", 1, ("jigsaw2018_multilabel", "train")),
        comment("told apart elsewhere", 0, TEST), comment("told apart elsewhere", 1, ("another", "train")),
        comment("garbled", 1, ("jigsaw2018_binary_robtest", "train")), comment(" ", 1), comment("no label", None),
        comment("x" * 41, 1), comment("x" * 40, 1), comment("a\nb", 1), comment("a b", 1), comment("last", 1, TEST),
    ]  # fmt: skip
    trained, held_out = jigsaw_data.split(rows, longest=40)
    assert sorted(row["text"] for row in trained) == ["a b", "x" * 40]
    assert sorted((row["text"], row["toxic"]) for row in held_out) == [("last", 1), ("you are KIND", 0)]
    assert jigsaw_data.split(rows[::-1], longest=40) == (trained, held_out)


def test_a_long_comment_keeps_its_question_and_its_label() -> None:
    tokenizer = bytes_tokenizer()
    rows = [{"text": "word " * 60 + "end", "toxic": 1}, {"text": "short", "toxic": 0}]
    for loss in jigsaw_data.LOSSES:
        found = jigsaw_data.training_rows(rows, tokenizer, 64, loss)
        ends = [row.get("text", row.get("prompt", "") + row.get("completion", "")) for row in found]
        assert [
            text.endswith(f"{jigsaw_data.QUESTION}{label}")
            for text, label in zip(ends, (" no", " yes"), strict=True)
        ]
        assert ends[0].endswith("rules? no")
        assert ends[1] == "short\nDoes it follow the rules? yes"
        encoded = encode_rows(found, tokenizer, max_length=64)
        whole = encode_rows(found, tokenizer, max_length=10_000)
        assert [row.ids for row in encoded] == [row.ids for row in whole]
        assert len(encoded[0].ids) > 50
    label_only = encode_rows(found, tokenizer, max_length=64)[1]
    assert not label_only.train_prompt
    assert tokenizer.decode(label_only.completion, skip_special_tokens=True) == " yes"


@pytest.mark.parametrize("loss", jigsaw_data.LOSSES)
def test_labels_are_measured_in_the_tokens_that_they_were_trained_in(loss: str) -> None:
    tokenizer = bytes_tokenizer()
    asked = jigsaw_data.context("Some text", tokenizer, 64)
    rows = jigsaw.label_rows(asked, tokenizer, loss)
    for found, toxic in zip(rows, (0, 1), strict=True):
        (made,) = jigsaw_data.training_rows([{"text": "Some text", "toxic": toxic}], tokenizer, 64, loss)
        (encoded,) = encode_rows([made], tokenizer, max_length=64)
        assert encoded.ids[: len(found.ids)] == found.ids
        assert found.completion
    assert rows[0].prompt == rows[1].prompt
    assert rows[0].completion[0] != rows[1].completion[0]


def test_a_tokenizer_that_cannot_tell_the_labels_is_refused() -> None:
    with pytest.raises(DataError, match="alike"):
        jigsaw.label_rows("a", word_tokenizer(["a"]), "lm")


def test_prompts_are_beginnings_of_longer_comments_of_both_labels() -> None:
    rows = [
        {"text": "one two three four five", "toxic": 1}, {"text": "a b c d e f", "toxic": 1},
        {"text": "a b c d e other", "toxic": 0}, {"text": "g h i j k l m", "toxic": 0},
        {"text": "n o p q r s", "toxic": 0},
    ]  # fmt: skip
    assert jigsaw.beginnings(rows, 2) == [("a b c d e", "after toxic"), ("g h i j k", "after civil")]


# ------------------------------------------------------------ ROC
def test_the_area_under_the_roc_curve_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 12, 200) / 4.0, rng.random(200) < 0.3  # with many ties
    weights = rng.integers(0, 4, (5, 200))
    assert roc.roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    expected = [roc_auc_score(labels, scores, sample_weight=one) for one in weights]
    assert roc.roc_auc(scores, labels, weights) == pytest.approx(expected)
    assert roc.roc_auc([0.1, 0.4, 0.4, 0.9], [False, True, False, True]) == (1 + 0.5 + 2) / 4


def test_the_interval_of_the_area_is_that_of_resampled_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(600) % 2 == 0
    scores = rng.normal(size=600) + labels
    found = roc.roc(scores, labels, seed=0)
    error = _hanley_mcneil(found["mean"], 300, 300)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert found["low"] < found["mean"] < found["high"]
    monkeypatch.setattr(roc, "CHUNK", 60_000)
    chunked = roc.roc(scores, labels, seed=0)
    assert chunked["low"] == pytest.approx(found["low"], abs=0.005)
    assert roc.roc(scores, np.ones(600), seed=0)["mean"] is None


def _hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Standard error of the area (Hanley and McNeil 1982), of normal scores about."""
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (positives - 1) * (first - area**2) + (negatives - 1) * (second - area**2)
    return float(np.sqrt((area * (1 - area) + spread) / (positives * negatives)))


# ------------------------------------------------------------ rows
def test_every_row_of_the_table_has_the_same_protocols_and_its_own_loss() -> None:
    from plan import TABLES, needs_of

    configs = {system: config_of(system) for system in TABLES["jigsaw"]}
    assert {config["measure"] for config in configs.values()} == {"jigsaw:measure"}
    assert {config["prepare"] for config in configs.values()} == {"jigsaw_data:prepare"}
    assert configs["jigsaw_base"]["name"] == "base"
    assert all(needs_of(system) == () for system in configs)
    for kind in jigsaw_data.LOSSES:
        assert configs[f"sft_{kind}"]["options"] == {"loss": kind, "method": "plain"}
        ours = configs[f"ours_{kind}"]["options"]
        assert ours["loss"] == kind
        assert ours.get("method", "constraint") == "constraint"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("system", ["sft_lm", "ours_lm", "sft_classification", "ours_classification"])
def test_the_settings_of_the_rows_fit_the_oracle_budget(system: str, name: str, tmp_path: Path) -> None:
    import run
    from scales import setting_of

    scale = setting_of(name, tmp_path, tmp_path).scale
    (tmp_path / "prompts.jsonl").write_text("{}\n" * 3464)
    own = Job(
        scale, system, "llama", 0, tmp_path / "none", tmp_path / "prompts.jsonl", tmp_path / "p.policy", tmp_path,
        config_of(system)["options"],
    )  # fmt: skip
    assert run.most_calls(own) <= (scale.oracle_calls if system.startswith("ours") else 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job on a random model that knows the words of the comments."""
    work = tmp_path_factory.mktemp("jigsaw")
    words = language.vocabulary()
    known = dict.fromkeys([*words, "Does", "it", "follow", "the", "rules?", "no", "yes"])
    tokenizer = word_tokenizer(known)
    tokenizer.save_pretrained(work / "lm")
    tiny_llama(len(tokenizer)).save_pretrained(work / "lm")
    classifier = write_classifier(work / "classifier", ("neutral", "toxic"))
    scale = Scale(
        name="smoke", models={"llama": str(work / "lm")}, classifier=f"{classifier}#toxic", bound=0.1, steps=3,
        batch_size=4, learning_rate=1e-2, max_length=24, max_new_tokens=8, oracle_calls=4_000, toxigen_prompts=8,
        rtp_prompts=1, rtp_samples=1, choice_questions=1, choice_shots=0, seeds=1, bf16=False,
    )  # fmt: skip
    rows = [{"text": " ".join(words[i : i + 8]), "toxic": i % 2} for i in range(24)]
    (work / jigsaw_data.FOLDER).mkdir()
    write_jsonl(work / jigsaw_data.FOLDER / "trained.jsonl", rows)
    write_jsonl(work / jigsaw_data.FOLDER / "heldout.jsonl", rows[:10])
    prompts = [{"text": " ".join(words[i : i + 4]), "domain": "toxigen"} for i in range(16)]
    asked = [{**prompt, "groups": ["a"]} for prompt in prompts[:6]]
    (work / "evaluation").mkdir()
    for name in ("toxigen", "neutral", "compliant"):
        write_jsonl(work / "evaluation" / f"{name}.jsonl", asked)
    write_jsonl(work / "evaluation" / "lambada.jsonl", [{"context": words[0], "target": words[1]}] * 3)
    (work / "one_line.policy").write_text(POLICY)
    write_jsonl(work / "prompts.jsonl", prompts)
    own = {
        "loss": "lm",
        "adaptive": "domain",
        "anchor_samples": 16,
        "control_samples": 8,
        "auxiliary_steps": 4,
    }
    return Job(
        scale, "ours_lm", "llama", 0, work / "prompts.jsonl", work / "prompts.jsonl", work / "one_line.policy", work,
        own,
    )  # fmt: skip


def test_a_row_is_trained_and_measured(made: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAIN, "smoke", {"rounds": 2})
    row.run(made)
    trained = Trained.read(made.folder)
    assert trained.steps == 3
    assert 0 < trained.oracle_calls <= made.scale.oracle_calls
    oracle = [json.loads(line) for line in (made.folder / "oracle.jsonl").read_text().splitlines()]
    written = [row["text"] for row in jigsaw_data.comments(made, "trained")]
    assert all(any(text.startswith(one["prompt"]) for text in written) for one in oracle)
    found = json.loads((made.folder / "measures" / "measures.json").read_text())
    for name in ("toxicity", "roc", "neutral_loss"):
        assert found[name]["low"] <= found[name]["mean"] <= found[name]["high"]
    assert found["roc"]["n"] == 8
    assert found["toxicity"] == found["comments"]["toxic"]
    assert found["comments_t1"]["toxic"]["n"] == 8
    samples = [
        json.loads(line) for line in (made.folder / "measures" / "samples.jsonl").read_text().splitlines()
    ]
    assert {one["protocol"] for one in samples} == {"comments", "comments_t1", "toxigen", "toxigen_t1"}
    assert found["roc"]["mean"] == pytest.approx(_area_by_hand(made, Path(trained.model)), abs=1e-9)


def _area_by_hand(made: Job, model_path: Path) -> float:
    """From the model's own probabilities of the two words after the question."""
    import torch
    from sklearn.metrics import roc_auc_score
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(model_path),
        AutoTokenizer.from_pretrained(model_path),
    )
    no, yes = tokenizer.convert_tokens_to_ids(["no", "yes"])
    rows = jigsaw_data.comments(made, "heldout")[:8]
    ratios = []
    for one in rows:
        ids = tokenizer(f"{one['text']} Does it follow the rules?", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            law = model(ids).logits[0, -1].log_softmax(-1)
        ratios.append(float(law[no] - law[yes]))
    return float(roc_auc_score([one["toxic"] for one in rows], ratios))


def test_what_training_held_is_gone_when_a_row_is_measured(
    made: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.callbacks = [self]

    held = []

    def train(job: Job) -> Trained:
        held.append(weakref.ref(Trainer()))
        return Trained("model", 1.0, 1.0, 0, 1, 1)

    def measure(job: Job, trained: Trained, folder: Path) -> None:
        held.append(held[0]())

    monkeypatch.setattr(row, "function", {"ours:train": train, "measures:measure": measure}.__getitem__)
    gc.disable()  # or it may be gone by chance
    try:
        row.run(replace(made, system="plain", work=tmp_path))
    finally:
        gc.enable()
    assert held[1] is None


def test_rows_hold_the_lock_of_their_run_and_share_out_its_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import run
    import torch

    asked: dict[str, Any] = {}
    monkeypatch.setattr(run, "run_all", lambda *_, **named: asked.update(named) or [])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    for device, gpus in (("cuda", ["4", "6"]), ("cpu", [])):
        setting = SimpleNamespace(scale=SimpleNamespace(device=device), pretrain={})
        context: Any = SimpleNamespace(setting=setting, shared=tmp_path, work=tmp_path)
        args: Any = SimpleNamespace(scale="smoke", work=tmp_path, jobs=2, later=[])
        assert run.run_rows(args, context, [], 9) == []
        assert asked == {"ready": set(), "gpus": gpus, "inherited": (9,)}


def test_an_unknown_loss_is_refused(made: Job) -> None:
    with pytest.raises(ConfigError, match="hinge"):
        jigsaw.train(replace(made, options={"loss": "hinge"}))
