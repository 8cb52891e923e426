"""Floors of the target at forbidden tokens: against enumeration, against the learned value, and through the command."""

from __future__ import annotations

import contextlib
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import World, word_tokenizer
from torch import Tensor

from constraintc.main import main
from constraintlang.source import SourceFile
from constraintlang_compiler.explain import explain_clause
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime import train_run
from constraintlang_runtime.auxiliary import AuxiliaryHead
from constraintlang_runtime.data import TokenRow, collate, prediction_sites
from constraintlang_runtime.groups import Group
from constraintlang_runtime.hard_masks import HardMasks, hard_masks
from constraintlang_runtime.penalty import SiteTargets
from constraintlang_runtime.projection import LOG_FLOOR
from constraintlang_runtime.regularizer import token_divergence
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.scorers.pool import ScoringPool

RUDE = 'edition 1\nattribute rude: flag { backend = regex(re"bad") }\n'
NEVER = RUDE + "kind: always not rude\n"
WORDS = ["go", "stop", "bad"]
GO, STOP, BAD = 3, 4, 5
VOCAB = 8  # two ids more than the tokenizer has


def masked(text: str, tokenizer: Any = None, **scorers: Any) -> tuple[HardMasks | None, dict[str, str]]:
    policy = compile_source(SourceFile(text))
    bound = bind_scorers(policy.ir, {}, scorers, folder=Path())
    pool = ScoringPool(policy.ir.attributes, bound)
    return hard_masks(policy, policy.ir.clauses, tokenizer or word_tokenizer(WORDS), pool)


def masks_of(text: str, tokenizer: Any = None, **scorers: Any) -> HardMasks | None:
    return masked(text, tokenizer, **scorers)[0]


class Fixed(Group):
    """A group whose V is 1 at every token, or ``log_value`` when that is given."""

    log_value = 0.0

    def log_potential(self) -> Tensor:
        return torch.full((2,), self.log_value)


def targets(
    rows: list[list[int]], logits: Tensor, *, log_value: float = 0.0, exponent: float = 1.0
) -> Tensor:
    """log q̂ [S, V] of completions after a prompt of one token, under ``NEVER``."""
    masks = masks_of(NEVER)
    assert masks is not None
    batch = collate([TokenRow((GO,), tuple(ids), {}, False) for ids in rows], 0)
    sites = prediction_sites(batch.region)
    head = AuxiliaryHead(4, VOCAB, 2, rank=2, width=4).requires_grad_(False).eval()
    group = Fixed("g", (), (), [], 1.0, np.zeros(0), head=head, fitted_exponent=exponent, masks=masks)
    group.log_value = log_value
    inputs = torch.zeros(int(sites.sum()), 4)
    made = SiteTargets(group, inputs, logits.__getitem__, group.log_potential(), masks.along(batch, sites))
    return made.log_probs(slice(0, len(inputs)))


def test_a_ban_on_one_token_is_the_exact_projection() -> None:
    """P(bad) = 0.3 wherever one is, so V(s·v) is the same at every other token, and the masks alone give q*.

    Against the list of all texts of three words; after "bad" the text is past repair and q̂ = p_ref.
    """
    generator = torch.Generator().manual_seed(0)
    law = {}
    for length in range(3):
        for prefix in itertools.product((GO, STOP, BAD), repeat=length):
            go = 0.7 * float(torch.rand((), generator=generator))
            law[prefix] = {GO: go, STOP: 0.7 - go, BAD: 0.3}

    def chance(text: tuple[int, ...]) -> float:
        return math.prod(law[text[:t]][text[t]] for t in range(3))

    texts = list(itertools.product((GO, STOP, BAD), repeat=3))
    weight = {text: chance(text) * (math.exp(-LOG_FLOOR) if BAD in text else 1.0) for text in texts}
    rows = [list(text) for text in texts]
    logits = torch.full((3 * len(rows), VOCAB), -60.0)
    for number, text in enumerate(texts):
        for t in range(3):
            for token, share in law[text[:t]].items():
                logits[3 * number + t, token] = math.log(share)
    found = targets(rows, logits).exp()
    for number, text in enumerate(texts):
        for t in range(3):
            under = {
                token: sum(w for other, w in weight.items() if other[: t + 1] == (*text[:t], token))
                for token in (GO, STOP, BAD)
            }
            exact = torch.tensor([under[token] / sum(under.values()) for token in (GO, STOP, BAD)])
            # V(s) of an open prefix is 0.7 to the number of words left, up to the floor itself
            torch.testing.assert_close(found[3 * number + t, [GO, STOP, BAD]], exact, atol=2e-5, rtol=1e-5)


def test_forbidden_tokens_keep_the_floor_and_the_reverse_divergence_is_finite() -> None:
    logits = torch.zeros(4, VOCAB)
    logits[:, BAD] = 4.0  # a model that is drawn to what is forbidden
    found = targets([[GO, STOP], [BAD, GO]], logits)
    tilt = found - torch.log_softmax(logits, -1)
    torch.testing.assert_close(
        tilt[:3, BAD] - tilt[:3, GO], torch.full((3,), -LOG_FLOOR), atol=1e-4, rtol=0.0
    )
    assert torch.equal(tilt[:3, VOCAB - 1], tilt[:3, GO])  # ids that are no token stay as they are
    torch.testing.assert_close(tilt[3], torch.zeros(VOCAB))  # past repair
    for kind in ("forward", "reverse", "js", "alpha"):
        divergence = token_divergence(torch.log_softmax(logits, -1), found, kind)  # type: ignore[arg-type]
        assert torch.isfinite(divergence).all()
        assert divergence[0] > 0.1
    assert token_divergence(torch.log_softmax(logits, -1), found, "reverse").max() <= LOG_FLOOR + 1e-4


def test_the_floor_is_no_second_penalty() -> None:
    """What is learned to be lower than the floor stays; nothing is added to it."""
    logits = torch.zeros(2, VOCAB)
    low = targets([[GO, STOP]], logits, log_value=-LOG_FLOOR, exponent=2.0)
    torch.testing.assert_close(low, torch.log_softmax(logits, -1))
    half = targets([[GO, STOP]], logits, log_value=-4.0, exponent=2.0)
    torch.testing.assert_close(half[:, BAD] - half[:, GO], torch.full((2,), 8.0 - LOG_FLOOR))


def test_the_end_is_forbidden_until_the_text_satisfies_the_clause() -> None:
    masks = masks_of('edition 1\nattribute asks: flag { backend = regex(re"stop") }\nstops: always asks\n')
    assert masks is not None
    batch = collate([TokenRow((GO,), (GO, STOP, GO, 1), {}, False)], 0)
    found = masks.along(batch, prediction_sites(batch.region)).forbidden(slice(0, 4), VOCAB)
    assert found[:, 1].tolist() == [True, True, False, False]
    assert not found[:, 2:].any()


def test_clauses_without_masks() -> None:
    """Soft, measured otherwise than the policy says, or about more than wording; what has a mask keeps it."""
    assert masks_of(RUDE + "kind: not rude under tolerance=5%\n") is None
    assert masks_of(NEVER, rude=lambda **given: [0.0]) is None
    assert masks_of("edition 1\nshort: always words <= 5\n") is None
    assert masks_of(NEVER + "short: always words <= 5\n") is not None
    nothing = RUDE + "kind: always not rude\nasks: always rude\n"
    assert masks_of(nothing) is None  # no response satisfies both


ORDER = """\
edition 1
attribute warns: flag { backend = regex(re"stop") }
attribute rude: flag { backend = regex(re"bad") }
kind: always not rude
order: always over sentences (warns before rude)
soon: over sentences (eventually warns) under tolerance=5%
"""


def test_hard_clauses_without_masks_are_named_with_the_reason() -> None:
    """Soft clauses never have masks, so nothing is to be said of them."""
    masks, left = masked(ORDER)
    assert masks is not None
    assert left == {"order": "it is about the sentences of a text, and masks know only what a text contains"}
    _, left = masked(NEVER, rude=lambda **given: [0.0])
    assert left == {"kind": "`rude` is measured by another scorer than the policy's"}
    _, left = masked(RUDE + "kind: always not rude\nasks: always rude\n")
    assert left == dict.fromkeys(("kind", "asks"), "no response that the tokenizer can write satisfies them")


def test_training_says_at_its_start_what_has_no_masks(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(Exception):
        """Stands for the training."""

    def begun(*_: Any) -> None:
        raise Begun

    monkeypatch.setattr(train_run, "_run", begun)
    (tmp_path / "order.policy").write_text(ORDER)
    with contextlib.suppress(Begun):
        main(["train", *world.flags(tmp_path / "out", policy=tmp_path / "order.policy")])
    said = [line for line in capsys.readouterr().err.splitlines() if "token masks" in line]
    assert len(said) == 1
    assert "`order` has no token masks" in said[0]
    assert "it is about the sentences of a text" in said[0]


def test_explain_says_that_an_order_is_never_masked() -> None:
    clauses = compile_source(SourceFile(ORDER)).ir.clauses
    evidence = {clause.name: explain_clause(clause, len(clauses)).evidence for clause in clauses}
    assert "there are no token masks" in evidence["order"]
    assert "masks it where wording alone decides" in evidence["kind"]


@pytest.mark.parametrize("divergence", ["reverse", "forward"])
def test_the_command_trains_with_and_without_masks(world: World, tmp_path: Path, divergence: str) -> None:
    rows = [line for line in world.data.read_text().splitlines() if '"kitchen"' in line]
    word = load_word(rows)
    policy = tmp_path / "never.policy"
    policy.write_text(
        f'edition 1\nattribute named: flag {{ backend = regex(re"{word}") }}\nkind: always not named\n'
    )
    common: dict[str, Any] = {
        "policy": policy, "divergence": divergence, "anchor": "start", "save_strategy": "no", "adam_epsilon": 1e-3,
    }  # fmt: skip
    found = []
    for name, changes in {
        "off": {"token_masks": "off"}, "plain": {"loss": "plain"}, "chunked": {"loss": "chunked", "chunk_sites": 7},
    }.items():  # fmt: skip
        assert main(["train", *world.flags(tmp_path / name, **common | changes)]) == 0
        weights = load_file(tmp_path / name / "model.safetensors")
        found.append(torch.cat([weights[key].flatten() for key in sorted(weights)]))
    off, plain, chunked = found
    assert torch.isfinite(plain).all()
    assert (plain - off).abs().max() > 1e-4
    assert (plain - chunked).abs().max() < 1e-4


def load_word(rows: list[str]) -> str:
    """A word of the rows that some completions have and others have not."""
    import json

    texts = [json.loads(line)["completion"].split() for line in rows]
    counts = {word: sum(word in text for text in texts) for text in texts for word in text if word.isalpha()}
    return min(counts, key=lambda word: (abs(counts[word] - len(texts) // 3), word))


def test_an_id_without_a_token_is_left_alone() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    gap = 5
    ids = {"<pad>": 0, "<end>": 1, "<unk>": 2, "go": 3, "stop": 4, "bad": 6}
    inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<end>")
    masks = masks_of(NEVER, tokenizer)
    assert masks is not None
    batch = collate([TokenRow((GO,), (GO, STOP), {}, False)], 0)
    found = masks.along(batch, prediction_sites(batch.region)).forbidden(slice(0, 2), VOCAB)
    assert found[:, 6].all()
    assert not found[:, gap].any()
    assert int(found.sum()) == 2
