"""Scorers that are models: each against transformers used by hand, batches against single texts, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import PLAIN, chat_tokenizer
from tiny_models import (
    World,
    read_jsonl,
    tiny_llama,
    word_tokenizer,
    write_classifier,
    write_reward_model,
    write_scoring_language_model,
    write_sentence_encoder,
)

from constraintc.main import main
from constraintlang.source import SourceFile
from constraintlang_compiler.ir import PolicyIR
from constraintlang_compiler.pipeline import compile_with_diagnostics
from constraintlang_runtime.demo import language
from constraintlang_runtime.errors import ConfigError, ModelError, ScorerError
from constraintlang_runtime.scorers import perplexity
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.scorers.classifier import ClassifierScorer
from constraintlang_runtime.scorers.hf_model import load_scoring_model
from constraintlang_runtime.scorers.nli import NliScorer, entailment_index
from constraintlang_runtime.scorers.perplexity import PerplexityScorer
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.reward import RewardScorer
from constraintlang_runtime.scorers.similarity import SimilarityScorer

WORDS = language.vocabulary()
TEXTS = [" ".join(WORDS[i : i + n]) for i, n in ((0, 3), (4, 1), (7, 9), (2, 5), (11, 2))] + [""]
PROMPTS = [" ".join(WORDS[i : i + 4]) + " " for i in range(len(TEXTS))]
LONG = " ".join(WORDS[i % len(WORDS)] for i in range(90))


def score(scorer: Any, prompts: list[str], texts: list[str]) -> list[float]:
    return list(scorer(prompts=prompts, completions=texts))


def loaded(kind: str, folder: Path) -> tuple[Any, Any]:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return getattr(transformers, kind).from_pretrained(folder).eval(), tokenizer


def policy(backend: str, kind: str, statement: str = "tone <= 1") -> PolicyIR:
    text = f"edition 1\nattribute tone: {kind} {{ backend = {backend} }}\n{statement}\n"
    outcome = compile_with_diagnostics(SourceFile(text, "p.policy"))
    assert outcome.policy is not None, outcome.diagnostics
    return outcome.policy.ir


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(
        tmp_path_factory.mktemp("nli") / "m", ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), pairs=True
    )


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scoring_language_model(tmp_path_factory.mktemp("lm") / "m")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_encoder(tmp_path_factory.mktemp("encoder") / "m")


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reward_model(
        tmp_path_factory.mktemp("reward") / "m", chat_tokenizer(PLAIN, unk_token="<unk>")
    )


@pytest.fixture(params=["nli", "reward", "similarity", "perplexity", "logprob"])
def any_scorer(
    request: pytest.FixtureRequest, nli: Path, reward_model: Path, encoder: Path, language_model: Path
) -> Any:
    make: dict[str, Callable[[], Any]] = {
        "nli": lambda: NliScorer(str(nli), hypothesis=WORDS[3], attribute="a", batch_size=4),
        "reward": lambda: RewardScorer(str(reward_model), attribute="a", batch_size=4),
        "similarity": lambda: SimilarityScorer(str(encoder), attribute="a"),
        "perplexity": lambda: PerplexityScorer(str(language_model), attribute="a", tokens=64, sites=7),
        "logprob": lambda: PerplexityScorer(str(language_model), attribute="a", unit="logprob", tokens=64),
    }
    return make[request.param]()


def test_a_batch_scores_like_single_texts_in_any_order(any_scorer: Any) -> None:
    prompts, texts = [*PROMPTS, "", PROMPTS[0]], [*TEXTS, TEXTS[2], LONG]
    together = score(any_scorer, prompts, texts)
    alone = [score(any_scorer, [p], [t])[0] for p, t in zip(prompts, texts, strict=True)]
    assert together == pytest.approx(alone, rel=1e-5, abs=1e-5)
    assert score(any_scorer, prompts[::-1], texts[::-1]) == pytest.approx(together[::-1], rel=1e-5, abs=1e-5)
    assert all(math.isfinite(value) for value in together)
    assert len({round(value, 5) for value in together}) > len(texts) // 2  # the random model tells them apart
    assert score(any_scorer, [], []) == []


# ------------------------------------------------------------------------------------------------ nli
def test_the_probability_of_entailment(nli: Path) -> None:
    import torch

    model, tokenizer = loaded("AutoModelForSequenceClassification", nli)
    scorer = NliScorer(str(nli), hypothesis=f"{WORDS[3]} {WORDS[8]}", attribute="a")
    for text in (*TEXTS[:3], ""):
        with torch.no_grad():
            logits = model(**tokenizer(text, f"{WORDS[3]} {WORDS[8]}", return_tensors="pt")).logits[0]
        assert score(scorer, [""], [text])[0] == pytest.approx(logits.softmax(-1)[2].item(), abs=1e-6)
    # the text is cut, the hypothesis is not
    again = NliScorer(str(nli), hypothesis=WORDS[5], attribute="a")
    assert score(again, [""], [LONG])[0] != pytest.approx(score(scorer, [""], [LONG])[0], abs=1e-4)


def test_labels_of_entailment(nli: Path, classifier: Path) -> None:
    assert entailment_index({0: "not_entailment", 1: "entailment"}, "a", "m") == 1
    assert entailment_index({0: "Entails", 1: "other"}, "a", "m") == 0
    with pytest.raises(ConfigError, match="several labels of entailment"):
        entailment_index({0: "entails", 1: "entailing"}, "a", "m")
    with pytest.raises(ConfigError, match="no label of entailment; its labels are rude, calm, odd"):
        NliScorer(str(classifier), hypothesis="x", attribute="a")
    with pytest.raises(ConfigError, match="the hypothesis takes"):
        NliScorer(str(nli), hypothesis=LONG, attribute="a")
    with pytest.raises(ConfigError, match="no hypothesis"):
        bind_scorers(policy('nli("m")', "score in [0, 1]"), {}, folder=nli.parent)


# ------------------------------------------------------------------------------------------------ reward
def test_the_raw_output_in_the_chat_template(reward_model: Path) -> None:
    import torch

    model, tokenizer = loaded("AutoModelForSequenceClassification", reward_model)
    values = score(RewardScorer(str(reward_model), attribute="a"), ["red ball", "red"], ["lamp", "lamp"])
    turns = [{"role": "user", "content": "red ball"}, {"role": "assistant", "content": "lamp"}]
    ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]
    with torch.no_grad():
        assert values[0] == pytest.approx(model(ids).logits[0, 0].item(), abs=1e-6)
    assert values[0] != pytest.approx(values[1], abs=1e-4)  # the prompt is read


def test_a_reward_model_without_a_template_reads_a_pair(tmp_path: Path) -> None:
    import torch

    folder = write_classifier(tmp_path / "m", ("LABEL_0",), pairs=True)
    model, tokenizer = loaded("AutoModelForSequenceClassification", folder)
    scorer = RewardScorer(str(folder), attribute="a")
    with torch.no_grad():
        expected = model(**tokenizer(PROMPTS[0], TEXTS[0], return_tensors="pt")).logits[0, 0].item()
    assert score(scorer, [PROMPTS[0]], [TEXTS[0]])[0] == pytest.approx(expected, abs=1e-6)
    # of what is too long, the beginning of the prompt goes
    end = " ".join(LONG.split()[-(24 - 3 - len(TEXTS[0].split())) :])
    cut, whole = score(scorer, [end, LONG], [TEXTS[0], TEXTS[0]])
    assert cut == pytest.approx(whole, abs=1e-6)
    assert score(scorer, [TEXTS[0]], [LONG]) == pytest.approx(score(scorer, [""], [LONG]), abs=1e-6)


def test_models_that_are_no_reward_models(classifier: Path, language_model: Path) -> None:
    with pytest.raises(ConfigError, match="has 3 outputs"):
        RewardScorer(str(classifier), attribute="a")
    with pytest.raises(
        ModelError, match=r"is no sequence classifier: it lacks 1 weights, first `score\.weight`"
    ):
        RewardScorer(str(language_model), attribute="a")


# ------------------------------------------------------------------------------------------------ similarity
@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", "max_tokens"])
def test_the_cosine_of_pooled_states(tmp_path: Path, pooling: str) -> None:
    import torch

    folder = write_sentence_encoder(tmp_path / "m", pooling)
    model, tokenizer = loaded("AutoModel", folder)
    vectors = []
    for text in (TEXTS[0], PROMPTS[2]):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        vectors.append(
            {"mean_tokens": states.mean(0), "cls_token": states[0], "max_tokens": states.amax(0)}[pooling]
        )
    expected = torch.nn.functional.cosine_similarity(*vectors, dim=0).item()
    assert score(SimilarityScorer(str(folder), attribute="a"), [PROMPTS[2]], [TEXTS[0]])[0] == pytest.approx(
        expected, abs=1e-6
    )
    fixed = SimilarityScorer(str(folder), attribute="a", to=PROMPTS[2])
    assert score(fixed, ["", ""], [TEXTS[0], PROMPTS[2]]) == pytest.approx([expected, 1.0], abs=1e-6)


def test_sentence_transformers_gives_the_same(encoder: Path) -> None:
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    vectors = package.SentenceTransformer(str(encoder), device="cpu").encode([TEXTS[0], PROMPTS[1]])
    assert score(SimilarityScorer(str(encoder), attribute="a"), [PROMPTS[1]], [TEXTS[0]])[0] == pytest.approx(
        float(vectors[0] @ vectors[1]), abs=1e-5
    )


def test_encoders_that_say_nothing_of_pooling(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_sentence_encoder(tmp_path / "m")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'constraintlang\[similarity\]'"):
        SimilarityScorer(str(folder), attribute="a")
    (folder / "modules.json").unlink()
    with pytest.raises(ConfigError, match=r"constraintlang\[similarity\]"):
        SimilarityScorer(str(folder), attribute="a")


# ------------------------------------------------------------------------------------------------ perplexity
def by_hand(folder: Path, prompt: str, text: str) -> float:
    """The mean log-probability of a text after its prompt, token by token."""
    import torch

    model, tokenizer = loaded("AutoModelForCausalLM", folder)
    before = tokenizer(prompt)["input_ids"] or [tokenizer.eos_token_id]
    reply = tokenizer(text)["input_ids"]
    total = 0.0
    for i, token in enumerate(reply):
        with torch.no_grad():
            law = model(torch.tensor([before + reply[:i]])).logits[0, -1].log_softmax(-1)
        total += float(law[token])
    return total / len(reply)


@pytest.mark.parametrize("prompt", [PROMPTS[0], ""])
def test_the_mean_log_probability_after_the_prompt(language_model: Path, prompt: str) -> None:
    expected = by_hand(language_model, prompt, TEXTS[2])
    own = PerplexityScorer(str(language_model), attribute="a", unit="logprob", sites=2)
    assert score(own, [prompt], [TEXTS[2]])[0] == pytest.approx(expected, abs=1e-5)
    ppl = PerplexityScorer(str(language_model), attribute="a")
    assert score(ppl, [prompt], [TEXTS[2]])[0] == pytest.approx(math.exp(-expected), rel=1e-5)
    assert score(own, [prompt], [""]) == [0.0]
    assert score(ppl, [prompt], [""]) == [1.0]


def test_long_texts_are_scored_to_their_last_token(language_model: Path) -> None:
    """90 words in windows of 24 that overlap by 12: every token once, with at least 11 before it."""
    import torch

    own = PerplexityScorer(str(language_model), attribute="a", unit="logprob")
    model, tokenizer = loaded("AutoModelForCausalLM", language_model)
    ids = [1, *tokenizer(LONG)["input_ids"]]
    total, start = 0.0, 1
    while start < len(ids):
        end = min(len(ids), max(start + 12, 24))
        begin = max(0, end - 24)
        with torch.no_grad():
            laws = model(torch.tensor([ids[begin:end]])).logits[0].log_softmax(-1)
        total += sum(float(laws[t - 1 - begin, ids[t]]) for t in range(start, end))
        start = end
    assert score(own, [""], [LONG])[0] == pytest.approx(total / 90, abs=1e-5)
    changed = LONG.rsplit(" ", 1)[0] + f" {WORDS[1]}"
    assert score(own, [""], [changed])[0] != pytest.approx(total / 90, abs=1e-6)


def test_no_more_logits_than_asked_for_exist_at_once(
    language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    scorer = PerplexityScorer(str(language_model), attribute="a", sites=5)
    rows: list[int] = []
    plain = torch.nn.functional.linear

    def watched(values: Any, weight: Any, bias: Any = None) -> Any:
        made = plain(values, weight, bias)
        if made.shape[-1] == len(WORDS) + 3:
            rows.append(made.shape[:-1].numel())
        return made

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    score(scorer, PROMPTS, TEXTS)
    assert sum(rows) == sum(len(text.split()) for text in TEXTS)
    assert max(rows) <= 5


def test_a_head_that_is_not_on_the_last_states_is_not_used(language_model: Path) -> None:
    scoring = load_scoring_model(str(language_model), "causal language model", attribute="a")
    assert perplexity.head_on_states(scoring) is not None
    expected = score(PerplexityScorer(str(language_model), attribute="a"), PROMPTS, TEXTS)
    scoring.model.lm_head.register_forward_pre_hook(lambda module, given: (given[0] * 2,))
    assert perplexity.head_on_states(scoring) is None
    slow = PerplexityScorer(str(language_model), attribute="a")
    slow._head = None
    assert score(slow, PROMPTS, TEXTS) == pytest.approx(expected, rel=1e-5)


def test_a_beginning_of_text_that_the_tokenizer_adds(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = word_tokenizer([*WORDS, "<s>"], bos_token="<s>")
    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", begin)]
    )
    tokenizer.save_pretrained(tmp_path)
    tiny_llama(len(tokenizer)).save_pretrained(tmp_path)
    own = PerplexityScorer(str(tmp_path), attribute="a", unit="logprob")
    assert score(own, [PROMPTS[0]], [TEXTS[0]])[0] == pytest.approx(
        _after(tmp_path, [begin, *tokenizer(PROMPTS[0], add_special_tokens=False)["input_ids"]], TEXTS[0]),
        abs=1e-5,
    )
    assert score(own, [""], [TEXTS[0]])[0] == pytest.approx(_after(tmp_path, [begin], TEXTS[0]), abs=1e-5)


def _after(folder: Path, before: list[int], text: str) -> float:
    import torch

    model, tokenizer = loaded("AutoModelForCausalLM", folder)
    reply = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        laws = model(torch.tensor([before + reply])).logits[0].log_softmax(-1)
    return sum(float(laws[len(before) - 1 + i, token]) for i, token in enumerate(reply)) / len(reply)


# ------------------------------------------------------------------------------------------------ binding
def test_policies_name_them(nli: Path, reward_model: Path, encoder: Path, language_model: Path) -> None:
    cases = [
        (f'nli("m", hypothesis="{WORDS[3]}")', "score in [0, 1]", nli),
        ('reward("m")', "real", reward_model),
        (f'similarity("m", to="{WORDS[3]}")', "real in [-1, 1]", encoder),
        ('similarity("m")', "real in [-1, 1]", encoder),
        ('perplexity("m")', "real in [1, inf]", language_model),
        ('logprob("m")', "real", language_model),
    ]
    for backend, kind, folder in cases:
        ir = policy(backend, kind)
        pool = ScoringPool(ir.attributes, bind_scorers(ir, {}, folder=folder.parent))
        assert len(pool.score(PROMPTS, TEXTS)["tone"]) == len(TEXTS)
    with pytest.raises(ConfigError, match="outside its folder"):
        bind_scorers(policy(f'reward("{reward_model}")', "real"), {}, folder=encoder)
    with pytest.raises(ModelError, match="scorer tone: no causal language model at `none/such`"):
        bind_scorers(policy('perplexity("none/such")', "real"), {}, folder=encoder)


def test_models_that_score_are_put_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    nli: Path, reward_model: Path, encoder: Path, language_model: Path, classifier: Path,
) -> None:  # fmt: skip
    """On a machine with a GPU, which is what models go to when nothing is said."""
    placed: list[str] = []

    def to(model: Any, device: Any) -> Any:
        placed.append(str(device))
        return model

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("transformers.PreTrainedModel.to", to)
    cases = [
        (policy(f'nli("m", hypothesis="{WORDS[3]}")', "score in [0, 1]"), {}, nli),
        (policy('reward("m")', "real"), {}, reward_model),
        (policy('similarity("m")', "real in [-1, 1]"), {}, encoder),
        (policy('perplexity("m")', "real in [1, inf]"), {}, language_model),
        (policy('logprob("m")', "real", "tone >= tone@base - 1"), {}, language_model),
        (policy(f'classifier("{classifier.name}", label="rude")', "score in [0, 1]"), {}, classifier),
        (policy('lexicon("words.tsv")', "score in [0, 1]"), {"tone": (str(classifier), "rude")}, classifier),
    ]
    for ir, options, folder in cases:
        for device in ("cpu", None):
            placed.clear()
            bind_scorers(ir, options, folder=folder.parent, base=str(language_model), device=device)
            assert placed
            assert set(placed) == {device or "cuda"}, ir.attributes


def test_a_score_outside_the_declared_range_is_an_error(language_model: Path) -> None:
    ir = policy('perplexity("m")', "real in [1, 2]")
    pool = ScoringPool(ir.attributes, bind_scorers(ir, {}, folder=language_model.parent))
    with pytest.raises(ScorerError, match="outside the declared range"):
        pool.score(PROMPTS, TEXTS)


def test_the_start_model_scores_at_base(language_model: Path, tmp_path: Path) -> None:
    ir = policy('logprob("m")', "real", "tone >= tone@base - 1")
    start = tmp_path / "start"
    word_tokenizer(WORDS).save_pretrained(start)
    tiny_llama(len(WORDS) + 3, seed=9).save_pretrained(start)
    bound = bind_scorers(ir, {}, folder=language_model.parent, base=str(start))
    own, base = (score(bound[name], PROMPTS[:1], TEXTS[:1])[0] for name in ("tone", "tone@base"))
    assert base == pytest.approx(by_hand(start, PROMPTS[0], TEXTS[0]), abs=1e-5)
    assert base != pytest.approx(own, abs=1e-4)
    with pytest.raises(ConfigError, match="add --base"):
        bind_scorers(ir, {}, folder=language_model.parent)


def test_an_empty_text_scores_the_same_beside_others(tmp_path: Path) -> None:
    """A tokenizer that adds nothing makes no token of it; beside longer texts it would be all padding."""
    folder = write_classifier(tmp_path / "m", ("rude", "calm"), marks=False)
    scorer = ClassifierScorer(str(folder), label="rude", attribute="a")
    assert score(scorer, ["", ""], ["", TEXTS[2]])[0] == pytest.approx(score(scorer, [""], [""])[0], abs=1e-6)


def test_eval_reads_the_log_probability_of_the_start_model(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model against itself: both scores of every reply are equal, and those of the log-probability by hand."""
    place = tmp_path / "scoring"
    place.symlink_to(world.model)
    text = (
        'edition 1\nattribute natural: real { backend = logprob("scoring") }\n'
        "near: natural >= natural@base - 0.01 for domain=chat\n"
    )
    (tmp_path / "p.policy").write_text(text)
    words = ["eval", str(tmp_path / "p.policy"), "--model", str(world.model), "--prompts", str(world.prompts)]
    words += [
        "--max_new_tokens",
        "6",
        "--num_prompts",
        "12",
        "--output",
        str(tmp_path / "ev"),
        "--allow-path",
    ]
    assert main(words) == 2
    assert "add --base" in capsys.readouterr().err
    assert main([*words, "--base", str(world.model)]) == 0
    samples = read_jsonl(tmp_path / "ev" / "samples.jsonl")
    for sample in samples:
        assert sample["scores"]["natural"] == pytest.approx(sample["scores"]["natural@base"], abs=1e-6)
    sample = next(s for s in samples if s["completion"].strip())
    expected = by_hand(world.model, sample["prompt"], sample["completion"])
    assert sample["scores"]["natural"] == pytest.approx(expected, abs=1e-4)


def test_their_size_is_counted_in_an_estimate(language_model: Path) -> None:
    from constraintlang_runtime.estimate.scorer_shapes import scorer_shapes

    shapes, notes = scorer_shapes(policy(f'perplexity("{language_model}")', "real"), [], None)
    assert (len(shapes), notes) == (1, [])
