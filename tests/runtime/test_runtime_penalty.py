"""The penalty and the trainer's loss on rows of an enumerable world: identities 5, 11 and 14 of method.md, section 7.

A tabular model stands in for the language model and the exact law for the auxiliary model, so that every number
that the batch code returns is also a sum over the list of sequences.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from enumerable_world import END, World, another_law, small_world
from hypothesis import given, settings
from hypothesis import strategies as st
from tabular_model import PROMPTS, TabularLM, all_rows, token_row
from world_policy import KINDS, Case, chance_duals, duals_of, make_case

from constraintlang_compiler.targets import LOG_FLOOR
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.data import IGNORED_LABEL, collate
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.penalty import regularizer_term
from constraintlang_runtime.regularizer import language_model_loss
from constraintlang_runtime.settings import RegularizerConfig
from constraintlang_runtime.trainer import ConstraintTrainer

fewer = settings(max_examples=4, deadline=None)  # an example runs a model over every row of a world


# ------------------------------------------------------------ 5: sums over rows
def _term(case: Case, group, student: np.ndarray, pairs: list[tuple[int, int]], **options) -> torch.Tensor:
    """``regularizer_term`` of rows (x, y), all of them as corpus rows unless ``sampled`` says otherwise."""
    world = case.world
    batch = collate([token_row(world, x, n) for x, n in pairs], END)
    model = TabularLM(world, student)
    logits = model(batch.input_ids, batch.attention_mask).logits
    num_sampled = options.pop("sampled", 0)
    rows = torch.arange(len(pairs))
    return regularizer_term(
        group, Anchor(TabularLM(world, world.table)), batch, logits,
        corpus_rows=rows[: len(pairs) - num_sampled], sampled_rows=rows[len(pairs) - num_sampled :],
        corpus_tokens=options.pop("corpus_tokens", 0.0), config=RegularizerConfig(**options),
    )  # fmt: skip


@fewer
@given(st.integers(0, 2**32 - 1), st.sampled_from(["forward", "reverse"]), st.floats(0.05, 6.0))
def test_identity_5_penalty_of_sampled_rows_is_the_sequence_divergence(seed, kind, dual):
    """E over student samples of the reverse term, or q samples of the forward term, is the sequence KL."""
    case = make_case(small_world(seed), "rarely")
    world, group = case.world, case.group(np.array([dual]))
    student, student_law = another_law(world, seed + 1)
    projected, _ = world.tilt(world.law, case.potential(np.array([dual])))
    sampler = projected if kind == "forward" else student_law
    expected = world.kl(*((projected, student_law) if kind == "forward" else (student_law, projected)))
    for x in range(world.num_prompts):
        terms = [
            _term(case, group, student, [(x, n)], divergence=kind, prefixes="corpus").item()
            for n in range(len(world.sequences))
        ]
        np.testing.assert_allclose(sampler[x] @ terms, expected[x], atol=2e-5)


@pytest.mark.parametrize("kind", ["forward", "reverse", "js", "alpha"])
@pytest.mark.parametrize("chosen", KINDS)
def test_penalty_sums_the_divergence_over_every_site_of_a_padded_batch(kind, chosen):
    """ρ Σ_rows Σ_t D(q̂(.|s_t), p(.|s_t)): all sites of the completion, the first included, padding not."""
    case = make_case(small_world(7), *chosen)
    world, strengths = case.world, duals_of(case, 1.3)
    group = case.group(strengths, weight=2.5)
    student, _ = another_law(world, 8)
    targets = case.token_targets(world.law, case.log_potential(strengths, LOG_FLOOR))
    each = _exact_divergence(world, student, targets, kind)
    pairs = all_rows(world)
    expected = (2.5 if len(strengths) else 1.0) * sum(each[x, world.path(n)].sum() for x, n in pairs)
    term = _term(case, group, student, pairs, divergence=kind, prefixes="corpus", chunk_sites=7)
    np.testing.assert_allclose(term.item(), expected, rtol=1e-5)


def _exact_divergence(world: World, student: np.ndarray, targets: np.ndarray, kind: str) -> np.ndarray:
    if kind == "forward":
        return world.token_kl(targets, student)
    if kind == "reverse":
        return world.token_kl(student, targets)
    if kind == "alpha":
        return 4 * (1 - np.sqrt(student * targets).sum(axis=-1))
    middle = 0.5 * (student + targets)
    return 0.5 * world.token_kl(student, middle) + 0.5 * world.token_kl(targets, middle)


def test_sampled_prefixes_share_the_weight_of_the_corpus_tokens():
    """corpus_tokens / sites for each sampled site, 1 without corpus tokens; ``mixed`` halves both parts."""
    case = make_case(small_world(3), "rarely")
    world, group = case.world, case.group(np.array([1.0]))
    student, _ = another_law(world, 4)
    pairs = all_rows(world)[:11]
    corpus = _term(case, group, student, pairs[:7], prefixes="corpus").item()
    drawn = _term(case, group, student, pairs[7:], prefixes="corpus").item()
    sites = sum(len(world.sequences[n]) for _, n in pairs[7:])
    both = {"sampled": 4, "prefixes": "mixed"}
    scaled = _term(case, group, student, pairs, corpus_tokens=30.0, **both).item()
    np.testing.assert_allclose(scaled, 0.5 * corpus + 0.5 * 30.0 / sites * drawn, rtol=1e-5)
    plain = _term(case, group, student, pairs, **both).item()
    np.testing.assert_allclose(plain, 0.5 * corpus + 0.5 * drawn, rtol=1e-5)
    only = _term(case, group, student, pairs, corpus_tokens=30.0, sampled=4, prefixes="sampled").item()
    np.testing.assert_allclose(only, 30.0 / sites * drawn, rtol=1e-5)


@pytest.mark.parametrize("bound", [0.05, 0.4])
def test_per_prompt_penalty_tilts_each_row_by_its_own_prompts_dual(bound):
    """``adaptive: prompt``: λ(x) from π at the prompt, so the target of a row is the projection of its own prompt."""
    case = make_case(small_world(5, num_prompts=3), "rarely")
    world = case.world
    group = case.group(np.array([np.log(1 - bound) - np.log(bound)]))
    success = 1 - (world.law * case.soft[:, :, 0]).sum(axis=1)
    student, _ = another_law(world, 6)
    strengths = chance_duals(success, bound)
    projected, _ = world.tilt(world.law, np.exp(-strengths[:, None] * case.soft[:, :, 0]))
    each = world.token_kl(student, world.next_token(projected))
    pairs = all_rows(world)
    expected = group.weight * sum(each[x, world.path(n)].sum() for x, n in pairs)
    term = _term(case, group, student, pairs, prefixes="corpus", adaptive="prompt", chunk_sites=5)
    np.testing.assert_allclose(term.item(), expected, rtol=1e-4)


# ------------------------------------------------------------ 11, 14: the trainer's loss
def _trainer(case: Case, group, **options) -> ConstraintTrainer:
    """A trainer with a group and an anchor in place, without data or a training loop."""
    trainer = object.__new__(ConstraintTrainer)
    regularizer = RegularizerConfig(prefixes="corpus", **{"loss": "plain"} | options)
    trainer.constraint = SimpleNamespace(
        method="constraint",
        regularizer=regularizer,
        rows_beside=lambda wanted, **_: max(1, round(wanted)),
        prefixes="corpus",
        adaptive="domain",
        packing=False,
    )
    trainer.state, trainer.args = (
        SimpleNamespace(global_step=0, epoch=0.0, num_train_epochs=1),
        SimpleNamespace(
            process_index=0,
            world_size=1,
            n_gpu=0,
            torch_compile=False,
            max_steps=1,
            gradient_accumulation_steps=1,
        ),
    )
    trainer.engine, trainer.pad_id = object.__new__(ConstraintEngine), END
    trainer.engine.groups, trainer.engine.config = [group], trainer.constraint
    trainer.engine.anchor, trainer.engine.start_anchor = Anchor(TabularLM(case.world, case.world.table)), None
    trainer.accelerator = SimpleNamespace(num_processes=1)
    trainer.start_losses()
    return trainer


def _inputs(case: Case, pairs: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
    batch = collate([token_row(case.world, x, n) for x, n in pairs], END)
    groups = torch.zeros(len(pairs), dtype=torch.long)
    return {**vars(batch), "group": groups, "preserved": torch.zeros(len(pairs), dtype=torch.bool)}


def _plain_loss(model: TabularLM, inputs: dict[str, torch.Tensor], num_tokens: float) -> torch.Tensor:
    logits = model(inputs["input_ids"], inputs["attention_mask"]).logits
    return language_model_loss(logits, inputs["labels"], float(num_tokens))


def test_identity_11_zero_duals_skip_the_term_bit_for_bit():
    """λ = 0 and no hard clause: loss and gradient are the plain ones, to the last bit; otherwise they are not."""
    case = make_case(small_world(11), "rarely")
    student, _ = another_law(case.world, 12)
    inputs = _inputs(case, all_rows(case.world))
    found = {}
    for name, dual in (("plain", None), ("vacuous", 0.0), ("active", 0.5)):
        model = TabularLM(case.world, student)
        group = case.group(np.array([dual or 0.0]), weight=3.0)
        assert group.is_vacuous() == (dual in (None, 0.0))
        trainer = _trainer(case, group)
        loss = (
            _plain_loss(model, inputs, 40.0)
            if dual is None
            else trainer.compute_loss(model, inputs, False, 40.0)
        )
        loss.backward()
        found[name] = (loss.detach(), model.lm_head.weight.grad)
    assert all(torch.equal(a, b) for a, b in zip(found["plain"], found["vacuous"], strict=True))
    assert not torch.equal(found["plain"][0], found["active"][0])
    assert not torch.equal(found["plain"][1], found["active"][1])


def test_identity_11_a_hard_clause_is_never_vacuous():
    assert not make_case(small_world(1), "never").group(np.zeros(0)).is_vacuous()
    assert not make_case(small_world(1), "never", "rarely").group(np.zeros(1)).is_vacuous()
    assert not make_case(small_world(1), "rarely", "rarely other").group(np.array([0.0, 0.1])).is_vacuous()


@pytest.mark.parametrize("kind", ["forward", "reverse", "js", "alpha"])
def test_identity_11_a_constant_potential_costs_the_anchor_itself_nothing(kind):
    """λ = 0: the target is p_ref, so the divergence of the anchor from it is 0."""
    case = make_case(small_world(2), "rarely")
    term = _term(
        case,
        case.group(np.zeros(1)),
        case.world.table,
        all_rows(case.world),
        divergence=kind,
        prefixes="corpus",
    )
    assert abs(term.item()) < 1e-5


@pytest.mark.parametrize("cut", [[3, 30], [1, 2, 27], [15, 15]])
def test_identity_14_one_normaliser_makes_micro_batches_add_up(cut):
    """The losses of micro-batches under the step's N sum to the loss of the whole step, whatever the cut."""
    case = make_case(small_world(13), "never", "rarely")
    student, _ = another_law(case.world, 14)
    model, trainer = TabularLM(case.world, student), _trainer(case, case.group(np.array([1.5]), weight=2.0))
    pairs = all_rows(case.world)
    total = float(sum(len(case.world.sequences[n]) for _, n in pairs))
    whole = trainer.compute_loss(model, _inputs(case, pairs), False, total).item()
    ends = np.cumsum(cut)
    parts = [pairs[start:end] for start, end in zip([0, *ends], [*ends, len(pairs)], strict=True)]
    losses = [trainer.compute_loss(model, _inputs(case, part), False, total).item() for part in parts if part]
    np.testing.assert_allclose(sum(losses), whole, rtol=1e-5)


def test_identity_14_means_of_sequences_are_another_objective():
    """Averaging each sequence by its own length is not the loss: sequences of unequal length would weigh alike."""
    case = make_case(small_world(13), "rarely")
    model = TabularLM(case.world, another_law(case.world, 14)[0])
    pairs = [(0, case.world.node[y] - len(case.world.prefixes)) for y in ((0,), (1, 1, 2), (2, 1, 0))]
    inputs = _inputs(case, pairs)
    tokens = float((inputs["labels"][:, 1:] != IGNORED_LABEL).sum())
    assert tokens == 7
    each = [
        _plain_loss(model, _inputs(case, [pair]), len(case.world.sequences[pair[1]])).item() for pair in pairs
    ]
    assert abs(np.mean(each) - _plain_loss(model, inputs, tokens).item()) > 1e-2


@pytest.mark.parametrize("train_prompt", [False, True])
def test_language_model_loss_is_the_log_probability_of_the_rows(train_prompt):
    """N · loss = -Σ log p(y|x), plus the prompt's own tokens after its first when the row trains on them."""
    world = small_world(15, num_prompts=3)
    table, law = another_law(world, 16)
    pairs = all_rows(world)
    batch = collate([token_row(world, x, n, train_prompt=train_prompt) for x, n in pairs], END)
    loss = language_model_loss(
        TabularLM(world, table)(batch.input_ids, batch.attention_mask).logits, batch.labels, 7.0
    )
    expected = -sum(np.log(law[x, n]) for x, n in pairs)
    if train_prompt:  # the tabular model is uniform inside a prompt
        expected += sum((len(PROMPTS[x]) - 1) * np.log(world.vocab_size) for x, _ in pairs)
    np.testing.assert_allclose(7.0 * loss.item(), expected, rtol=1e-5)
