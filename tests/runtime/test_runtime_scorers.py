"""The built-in scorers, on texts whose scores are known by hand, and the binding of a policy's attributes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import write_classifier, write_lexicon

from constraintlang.source import SourceFile
from constraintlang_compiler.ir import PolicyIR
from constraintlang_compiler.pipeline import compile_with_diagnostics
from constraintlang_runtime.errors import ConfigError, ModelError
from constraintlang_runtime.scorers.binding import bind_scorers, describe, parse_scorer_options
from constraintlang_runtime.scorers.classifier import ClassifierScorer
from constraintlang_runtime.scorers.length import LengthScorer
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.scorers.regex import RegexScorer


def score(scorer: Any, *texts: str) -> list[float]:
    return list(scorer(prompts=[""] * len(texts), completions=list(texts)))


@pytest.fixture
def lexicon(tmp_path: Path) -> Callable[..., LexiconScorer]:
    def make(text: str, **options: Any) -> LexiconScorer:
        path = tmp_path / "words.txt"
        path.write_text(text, encoding="utf-8")
        return LexiconScorer(path, **options)

    return make


# ------------------------------------------------------------------------------------------------ lexicon
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("nothing here", 0.0),
        ("dumb", 1.0),
        ("DUMB, Dumb! dumb", 3.0),
        ("dumber dumb_ 2dumb xdumb", 0.0),
        ("(dumb) dumb-dumb", 3.0),
        ("you idiot", 0.25),
        ("shut up", 2.5),  # the phrase and the word inside it
        ("shut  up", 0.5),
        ("STRASSE Straße strasse", 3.0),
        ("caf\u00e9 cafe\u0301", 2.0),  # composed and decomposed
        ("cafe", 0.0),
        ("дурак ДУРАК дураки", 2.0),
    ],
)
def test_lexicon(lexicon: Callable[..., LexiconScorer], text: str, expected: float) -> None:
    words = "# comment\n\ndumb\nidiot\t0.25\nshut up\t2\nshut\t0.5\nstraße\ncaf\u00e9\nдурак\n"
    assert score(lexicon(words), text) == [expected]


def test_lexicon_sums_do_not_straddle_a_threshold(lexicon: Callable[..., LexiconScorer]) -> None:
    """Two mild words weigh exactly 0.1, so `toxicity < 0.1` fails; ten weights of 0.1 are exactly 1."""
    scorer = lexicon("a\t0.05\nb\t0.1\nc\t0.2\n")
    assert not score(scorer, "a a")[0] < 0.1
    assert score(scorer, "b c", "b " * 10, "b b b") == [0.3, 1.0, 0.3]
    assert 0.1 + 0.2 != 0.3  # what a plain sum would give


def test_lexicon_ceiling_and_flag(lexicon: Callable[..., LexiconScorer]) -> None:
    assert score(lexicon("bad\t0.7", ceiling=1.0), "bad bad") == [1.0]
    assert score(lexicon("bad", flag=True), "bad bad", "good") == [1.0, 0.0]
    mild = lexicon("bad\t0.3\nnot\t-0.3\n", flag=True)
    assert score(mild, "bad", "bad bad", "not", "not bad", "good") == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert score(lexicon("bad"), "bad bad") == [2.0]


@pytest.mark.parametrize(
    ("text", "part"),
    [("bad\theavy", "line 1"), ("ok\nbad\tnan", "line 2"), ("# only\n", "no entries"), ("", "no entries")],
)
def test_wrong_lexicons(lexicon: Callable[..., LexiconScorer], text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        lexicon(text)


def test_lexicon_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        LexiconScorer(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError, match="UTF-8"):
        LexiconScorer(tmp_path / "latin.txt")


# ------------------------------------------------------------------------------------------------ regex, length
def test_regex_counts_and_flags() -> None:
    assert score(RegexScorer(r"\d{3}", flag=False), "123 456 78", "", "12") == [2.0, 0.0, 0.0]
    assert score(RegexScorer(r"\d{3}", flag=True), "123 456", "x") == [1.0, 0.0]
    assert score(RegexScorer(r"(?i)\bno\b", flag=False), "No, no; nobody") == [2.0]
    assert score(RegexScorer("é+", flag=False), "éé é e") == [2.0]


@pytest.mark.parametrize("pattern", [r"(a)\1", r"(?=a)", r"(?<!a)b", "(", "*"])
def test_patterns_that_need_backtracking_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="RE2 does not accept"):
        RegexScorer(pattern, flag=False)


def test_a_pattern_that_ruins_backtracking_engines_is_fast() -> None:
    assert score(RegexScorer("(a+)+$", flag=True), "a" * 50_000 + "b") == [0.0]


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("words", "", 0), ("words", " a  b\n c ", 3), ("characters", "añb", 3),
        ("sentences", "", 0), ("sentences", "One. Two! Three", 3), ("sentences", "What?! Yes...", 2),
        ("sentences", "v1.2 is out.", 1), ("sentences", "   ", 0),
    ],
)  # fmt: skip
def test_length(unit: str, text: str, expected: int) -> None:
    assert score(LengthScorer(unit), text) == [float(expected)]


def test_unknown_unit() -> None:
    with pytest.raises(ConfigError, match="words, sentences, characters"):
        LengthScorer("syllables")


# ------------------------------------------------------------------------------------------------ classifier
TEXTS = ("crush the fence", "paint", "", "olga asks kindly about the lamp :", "the " * 60)


def reference(folder: Path, text: str) -> Any:
    """Logits of one text by the plain calls of transformers."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    ids = ids if len(ids) <= 24 else [*ids[:23], ids[-1]]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def test_softmax_of_the_named_label(classifier: Path) -> None:
    for label, index in (("calm", 1), ("CALM", 1), ("2", 2), ("rude", 0)):
        scorer = ClassifierScorer(str(classifier), label=label, attribute="toxicity")
        for text in TEXTS:
            expected = reference(classifier, text).softmax(-1)[index].item()
            assert score(scorer, text)[0] == pytest.approx(expected, abs=1e-6)
    values = score(scorer, *TEXTS)
    assert len({round(value, 4) for value in values}) == len(values)  # the random model tells them apart


def test_the_attribute_names_the_label(classifier: Path) -> None:
    named = ClassifierScorer(str(classifier), label=None, attribute="Odd")
    chosen = ClassifierScorer(str(classifier), label="odd", attribute="toxicity")
    assert score(named, *TEXTS) == score(chosen, *TEXTS)


def test_a_batch_scores_like_single_texts(classifier: Path) -> None:
    scorer = ClassifierScorer(str(classifier), label="rude", attribute="toxicity", batch_size=3)
    assert score(scorer, *TEXTS) == pytest.approx([score(scorer, text)[0] for text in TEXTS], abs=1e-6)
    assert score(scorer, *reversed(TEXTS)) == pytest.approx(score(scorer, *TEXTS)[::-1], abs=1e-6)


def test_sigmoids(tmp_path: Path) -> None:
    many = write_classifier(tmp_path / "many", ("rude", "calm"), multi_label=True)
    scorer = ClassifierScorer(str(many), label="calm", attribute="toxicity")
    assert score(scorer, TEXTS[0])[0] == pytest.approx(
        reference(many, TEXTS[0]).sigmoid()[1].item(), abs=1e-6
    )
    one = write_classifier(tmp_path / "one", ("only",))
    scorer = ClassifierScorer(str(one), label=None, attribute="toxicity")
    assert score(scorer, TEXTS[0])[0] == pytest.approx(reference(one, TEXTS[0]).sigmoid()[0].item(), abs=1e-6)


def test_long_texts_of_a_model_whose_positions_start_late(tmp_path: Path) -> None:
    """RoBERTa counts positions from pad_token_id + 1, so it holds fewer tokens than its table has rows."""
    folder = write_classifier(tmp_path / "roberta", ("rude", "calm"), roberta=True)
    scorer = ClassifierScorer(str(folder), label="rude", attribute="toxicity")
    assert 0 < score(scorer, "the " * 100)[0] < 1


def test_labels_that_cannot_be_chosen(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"3 labels \(rude, calm, odd\)"):
        ClassifierScorer(str(classifier), label=None, attribute="toxicity")
    for label in ("loud", "3", "-1"):
        with pytest.raises(ConfigError, match=f"no label `{label}`"):
            ClassifierScorer(str(classifier), label=label, attribute="toxicity")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        ClassifierScorer(str(tmp_path), label="rude", attribute="toxicity")


def test_pickled_weights_are_not_read(classifier: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    for path in classifier.iterdir():
        if path.name != "model.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(classifier / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError):
        ClassifierScorer(str(tmp_path), label="rude", attribute="toxicity")


# ------------------------------------------------------------------------------------------------ binding
def policy(backend: str, kind: str = "score in [0, 1]") -> PolicyIR:
    inner = f"{{ backend = {backend} }}" if backend else ""
    text = f"edition 1\nattribute tone: {kind} lower_is_better {inner}\ntone <= 1\n"
    outcome = compile_with_diagnostics(SourceFile(text, "p.policy"))
    assert outcome.policy is not None, outcome.diagnostics
    return outcome.policy.ir


def test_options() -> None:
    assert parse_scorer_options(["a=b#c", "d=e", "f=x=y"]) == {
        "a": ("b", "c"),
        "d": ("e", None),
        "f": ("x=y", None),
    }
    for wrong in ("a", "=b", "a="):
        with pytest.raises(ConfigError, match="NAME=PATH"):
            parse_scorer_options([wrong])


def test_an_option_wins_over_the_backend_and_a_callable_over_both(tmp_path: Path, classifier: Path) -> None:
    write_lexicon(tmp_path / "words.tsv")
    ir = policy('lexicon("words.tsv")')
    assert describe(bind_scorers(ir, {}, folder=tmp_path)) == {"tone": "LexiconScorer"}
    option = {"tone": (str(classifier), "rude")}
    assert describe(bind_scorers(ir, option, folder=tmp_path)) == {"tone": "ClassifierScorer"}
    flags = compile_with_diagnostics(
        SourceFile("edition 1\nattribute tone: flag\nP(tone) < 9%\n", "p.policy")
    )
    assert flags.policy is not None
    with pytest.raises(ConfigError, match="`tone` is a flag"):
        bind_scorers(flags.policy.ir, option, folder=tmp_path)
    ready = RegexScorer("a", flag=False)
    assert bind_scorers(ir, option, {"tone": ready}, folder=tmp_path)["tone"] is ready


def test_every_backend_is_built(tmp_path: Path) -> None:
    built = bind_scorers(policy('regex(re"a+")', "count"), {}, folder=tmp_path)["tone"]
    assert score(built, "aa a") == [2.0]
    built = bind_scorers(policy("length(words)", "int"), {}, folder=tmp_path)["tone"]
    assert score(built, "aa a") == [2.0]
    write_lexicon(tmp_path / "words.tsv")
    built = bind_scorers(policy('lexicon("words.tsv")'), {}, folder=tmp_path)["tone"]
    assert score(built, "crush crush crush") == [1.0]  # the ceiling is the attribute's


def test_the_policys_own_classifier(classifier: Path) -> None:
    ir = policy('classifier("three", label="calm")')
    built = bind_scorers(ir, {}, folder=classifier.parent)["tone"]
    assert score(built, TEXTS[0])[0] == pytest.approx(
        reference(classifier, TEXTS[0]).softmax(-1)[1].item(), abs=1e-6
    )


@pytest.mark.parametrize("path", ["../words.tsv", "/etc/hostname", "link.tsv", "sub/../../words.tsv"])
def test_files_outside_the_policys_folder(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "policies"
    (folder / "sub").mkdir(parents=True)
    write_lexicon(tmp_path / "words.tsv")
    (folder / "link.tsv").symlink_to(tmp_path / "words.tsv")
    ir = policy(f'lexicon("{path}")')
    with pytest.raises(ConfigError, match="outside its folder"):
        bind_scorers(ir, {}, folder=folder)
    assert "tone" in bind_scorers(ir, {}, folder=folder, allow_path=True)


def test_a_classifier_outside_the_policys_folder(classifier: Path, tmp_path: Path) -> None:
    ir = policy(f'classifier("{classifier}", label="calm")')
    with pytest.raises(ConfigError, match="outside its folder"):
        bind_scorers(ir, {}, folder=tmp_path)


def test_a_word_list_has_no_labels(tmp_path: Path) -> None:
    write_lexicon(tmp_path / "words.tsv")
    option = {"tone": (str(tmp_path / "words.tsv"), "toxic")}
    with pytest.raises(ConfigError, match="word list, and has no label `toxic`"):
        bind_scorers(policy('lexicon("words.tsv")'), option, folder=tmp_path)


def test_names_that_the_policy_does_not_use(tmp_path: Path) -> None:
    ir = policy('regex(re"a")', "count")
    with pytest.raises(ConfigError, match="a similar name exists: `tone`"):
        bind_scorers(ir, {"tones": ("x", None)}, folder=tmp_path)
    with pytest.raises(ConfigError, match="leave it out"):
        bind_scorers(ir, {}, {"zebra": RegexScorer("a", flag=False)}, folder=tmp_path)


def test_an_attribute_without_a_backend(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"add --scorer tone=PATH\[#LABEL\]"):
        bind_scorers(policy(""), {}, folder=tmp_path)
