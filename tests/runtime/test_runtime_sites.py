"""Sites, masks and padding; the divergences themselves; the controllers; small pure functions beside them."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from enumerable_world import END, another_law, random_world
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tabular_model import TabularLM, all_rows, token_row
from world_policy import first_dual, make_case

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.control import ControllerState, initial_weight, update
from constraintlang_runtime.data import IGNORED_LABEL, TokenRow, collate, next_tokens, prediction_sites
from constraintlang_runtime.groups import Group
from constraintlang_runtime.penalty import preservation_term, regularizer_term
from constraintlang_runtime.projection import LOG_FLOOR, effective_sample_size, project
from constraintlang_runtime.regularizer import language_model_loss, token_divergence
from constraintlang_runtime.rounds import draw_prompts
from constraintlang_runtime.settings import RegularizerConfig

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
DIVERGENCES = ("forward", "reverse", "js", "alpha")


# ------------------------------------------------------------ sites and masks
@st.composite
def token_rows(draw) -> list[TokenRow]:
    def ids(least):
        return draw(st.lists(st.integers(0, 4), min_size=least, max_size=5).map(tuple))

    return [TokenRow(ids(1), ids(1), {}, draw(st.booleans())) for _ in range(draw(st.integers(1, 4)))]


@given(token_rows(), st.integers(0, 4), st.integers(0, 3))
def test_sites_are_the_positions_before_each_completion_token(rows, pad_id, more):
    """First completion token included, padding excluded, the pad token may be any token; labels likewise."""
    width = max(len(row.ids) for row in rows) + more
    batch = collate(rows, pad_id, width=width)
    sites = prediction_sites(batch.region)
    found = [(i, t) for i, t in torch.nonzero(sites).tolist()]
    expected = [
        (i, len(row.prompt) - 1 + j) for i, row in enumerate(rows) for j in range(len(row.completion))
    ]
    assert found == expected
    assert next_tokens(batch.input_ids, sites).tolist() == [v for row in rows for v in row.completion]
    assert batch.attention_mask.sum(1).tolist() == [len(row.ids) for row in rows]
    for i, row in enumerate(rows):
        kept = (batch.labels[i] != IGNORED_LABEL).nonzero().flatten().tolist()
        assert kept == list(range(0 if row.train_prompt else len(row.prompt), len(row.ids)))
        assert batch.labels[i, kept].tolist() == list(row.ids[kept[0] :])


@few
@given(token_rows(), seeds)
def test_logits_at_masked_positions_do_not_change_the_loss_bit_for_bit(rows, seed):
    batch = collate(rows, 0)
    torch.manual_seed(seed)
    logits = torch.randn(*batch.input_ids.shape, 5)
    counted = prediction_sites(batch.labels != IGNORED_LABEL)
    changed = torch.where(counted[:, :, None], logits, 100 * torch.randn_like(logits))
    assert torch.equal(*(language_model_loss(each, batch.labels, 3.0) for each in (logits, changed)))


def _penalties(
    pad_id: int, width: int | None, noise: int | None, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The regularizer and preservation terms of one batch, padded in some way."""
    world = random_world(3, vocab_size=3, length=3, num_prompts=3)
    case = make_case(world, "never", "rarely")
    batch = collate([token_row(world, x, n) for x, n in all_rows(world)[:12]], pad_id, width=width)
    model = TabularLM(world, another_law(world, 4)[0])
    logits = model(batch.input_ids, batch.attention_mask).logits.detach()
    if noise is not None:
        kept = prediction_sites(batch.region)[:, :, None]
        logits = torch.where(kept, logits, torch.full_like(logits, float(noise)).cumsum(-1))
    anchor, rows = Anchor(TabularLM(world, world.table)), torch.arange(12)
    term = regularizer_term(
        case.group(np.array([1.0])), anchor, batch, logits, corpus_rows=rows, sampled_rows=rows[:0],
        corpus_tokens=0.0, config=RegularizerConfig(prefixes="corpus", divergence=kind),
    )  # fmt: skip
    return term, preservation_term(anchor, batch, logits, rows)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_padding_does_not_change_the_penalties_bit_for_bit(kind):
    """Another pad token (the end token or not), a wider batch, other logits off the sites: the same bits."""
    plain = _penalties(END, None, None, kind)
    for other in ((2, None, None, kind), (END, 9, None, kind), (END, None, 50, kind), (1, 8, -3, kind)):
        assert all(torch.equal(a, b) for a, b in zip(plain, _penalties(*other), strict=True))


def test_preservation_is_the_forward_divergence_from_the_anchor_over_trained_tokens():
    """Σ KL(p_0‖p) against the enumeration, for chosen rows of a batch that is wider than they are."""
    world = random_world(3, vocab_size=3, length=3, num_prompts=3)
    student, _ = another_law(world, 4)
    pairs = all_rows(world)[:10]
    batch = collate([token_row(world, x, n) for x, n in pairs], END)
    logits = TabularLM(world, student)(batch.input_ids, batch.attention_mask).logits
    rows = torch.tensor([7, 2, 3])
    each = world.token_kl(world.table, student)
    expected = sum(each[pairs[i][0], world.path(pairs[i][1])].sum() for i in rows.tolist())
    term = preservation_term(Anchor(TabularLM(world, world.table)), batch, logits, rows)
    np.testing.assert_allclose(term.item(), expected, rtol=1e-5)


# ------------------------------------------------------------ divergences
@pytest.mark.parametrize("kind", DIVERGENCES)
def test_gradcheck_of_the_divergences_in_float64(kind):
    torch.manual_seed(0)
    logits = [torch.randn(4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def through_softmax(student, target):
        return token_divergence(torch.log_softmax(student, -1), torch.log_softmax(target, -1), kind)

    assert torch.autograd.gradcheck(through_softmax, logits)


@few
@given(seeds, st.sampled_from(DIVERGENCES), st.floats(1e-3, 3.0))
def test_divergences_are_not_negative_and_zero_only_for_equal_laws(seed, kind, spread):
    torch.manual_seed(seed)
    student, target = (torch.log_softmax(torch.randn(6, 5).double(), -1) for _ in range(2))
    near = torch.log_softmax(student + spread * torch.randn(6, 5).double(), -1)
    assert token_divergence(student, student, kind).abs().max() < 1e-12
    for other in (target, near):
        found = token_divergence(student, other, kind)
        total_variation = 0.5 * (student.exp() - other.exp()).abs().sum(-1)
        assert (found >= 0.5 * total_variation**2 - 1e-12).all()  # Pinsker: KL >= 2 tv², js >= tv²/2
        if kind == "js":
            assert (found <= math.log(2)).all()


def test_an_unknown_divergence_is_refused():
    unchecked = inspect.unwrap(token_divergence)  # without the tests' own check of types
    with pytest.raises(ValueError, match="forward"):
        unchecked(torch.zeros(1, 1), torch.zeros(1, 1), "sideways")


# ------------------------------------------------------------ controllers
STATE = ControllerState(value=2.0, weight=3.0, set_point=0.05)
rates = st.floats(0.0, 1.0)


@given(rates, rates, st.integers(100, 10_000), st.floats(0.5, 20.0))
def test_a_dual_moves_by_the_clipped_logit_error_toward_its_set_point(rate, set_point, count, scale):
    """value += k clip(logit r̂ - logit b, ±1.5) / scale with r̂ = (c + ½) / (n + 1): up exactly when the rate is high."""
    set_point = min(max(set_point, 1e-3), 0.999)
    smoothed = (rate * count + 0.5) / (count + 1)
    error = math.log(smoothed / (1 - smoothed)) - math.log(set_point / (1 - set_point))
    moved = update(replace(STATE, set_point=set_point), rate * count, count, scale)
    expected = 2.0 + 0.2 * min(max(error, -1.5), 1.5) / scale
    np.testing.assert_allclose(moved.value, min(max(expected, 0.0), LOG_FLOOR), atol=1e-9)
    assert (moved.value > 2.0) == (smoothed > set_point) or abs(error) < 1e-9
    assert moved.weight == STATE.weight
    assert moved.window == ()


def test_a_dual_stays_inside_its_interval_and_doubles_the_weight_at_the_cap():
    low = update(replace(STATE, value=0.1), 0.0, 1000)
    assert low.value == 0.0
    state = replace(STATE, value=LOG_FLOOR - 0.1)
    state = update(state, 900.0, 1000)
    assert (state.value, state.weight) == (LOG_FLOOR, 3.0)
    for doublings in (1, 2, 3, 4, 4, 4):
        state = update(state, 900.0, 1000)
        assert (state.value, state.weight, state.doublings) == (LOG_FLOOR, 3.0 * 2**doublings, doublings)
    assert update(state, 0.0, 1000).value == LOG_FLOOR - 0.2 * 1.5  # comes back down, not wound up
    assert update(replace(STATE, value=1.9, max_value=2.0), 900.0, 1000).value == 2.0


@given(st.floats(0.0, LOG_FLOOR), st.floats(0.0, LOG_FLOOR), st.floats(0.0, 1.0))
def test_what_the_exponent_cannot_take_on_the_weight_does(value, start, coupling):
    """Together they carry exp(coupling (λ - start)): γ between 1/4 and 4, then ρ up to 16; a price asks for no more."""
    state = replace(STATE, value=value, start=start)
    carried = math.exp(coupling * (value - start))
    gamma, rho = state.exponent_factor(coupling), state.weight_factor(coupling)
    np.testing.assert_allclose(gamma * rho, min(max(carried, 1 / 4), 64.0))
    assert rho == 1.0 or math.isclose(gamma, 4.0)
    assert replace(state, cap=5.0).weight_factor(coupling) == 1.0
    assert replace(state, kind="log_weight").weight_factor(coupling) == 1.0


def test_the_weight_of_a_group_grows_when_its_exponent_is_at_its_limit():
    state = replace(STATE, value=10.0, start=2.0)  # half of 8 goes on, exp(4) / 4 to the weight
    group = Group("g", (), (), [], 1.0, np.zeros(0), controllers=[STATE, state], fitted_exponent=2.0)
    np.testing.assert_allclose([group.exponent, group.weight], [8.0, 3.0 * math.exp(4.0) / 4])
    group.controllers = [
        replace(state, weight=6.0, doublings=1)
    ]  # a weight that was doubled already is not twice so
    np.testing.assert_allclose(group.weight, 3.0 * math.exp(4.0) / 4)
    group.fitted_exponent = 1.0  # all is explained: λ alone acts
    assert (group.exponent, group.weight) == (1.0, 6.0)


def test_a_controller_waits_until_its_window_is_large_enough():
    state = replace(STATE, min_samples=250)
    once = update(state, 12.0, 100)
    assert (once.value, once.window) == (2.0, ((12.0, 100.0),))
    twice = update(once, 0.0, 100)
    assert len(twice.window) == 2
    moved = update(twice, 0.0, 100)
    expected = math.log(12.5 / 288.5) - math.log(0.05 / 0.95)
    np.testing.assert_allclose(moved.value, 2.0 + 0.2 * expected)
    assert moved.window == ()
    assert ControllerState.from_dict(once.to_dict()) == once


def test_a_moving_anchors_controller_moves_the_logarithm_of_the_weight():
    state = replace(STATE, kind="log_weight", value=math.log(3.0), fixed_dual=1.25, max_value=6.0)
    up = update(state, 900.0, 1000)
    np.testing.assert_allclose([up.value, up.weight], [math.log(3.0) + 0.3, 3.0 * math.exp(0.3)])
    assert (up.dual, STATE.dual) == (1.25, 2.0)


@few
@given(seeds, st.floats(0.3, 4.0), st.floats(0.3, 4.0))
def test_control_of_an_exact_projection_arrives_at_the_projections_dual(seed, wanted, start):
    """The plant E_{q_λ} f, measured without noise: λ converges to the dual that ``project`` finds."""
    case = make_case(random_world(seed), "never", "rarely")
    world, f = case.world, case.soft[:, :, 0]

    def rate(dual):
        return world.mean(world.tilt(world.law, case.potential(np.array([dual])))[0], f)

    point = rate(wanted)
    assume(1e-3 < point < 0.999)
    rows = world.per_prompt_copy(world.bin_law(world.law, case.bins, case.target.num_bins)[:, 0])
    solved = project(rows, case.bin_values, np.array([point]), case.target.hard_bins)
    state = replace(STATE, value=start, set_point=point)
    for _ in range(120):
        state = update(state, rate(state.value) * 1e12, 1e12)
    np.testing.assert_allclose([state.value, solved.duals[0]], wanted, atol=1e-4)


@few
@given(st.floats(0.01, 0.4), st.floats(0.0, 0.5))
def test_first_weights_keep_the_pull_of_the_corpus_small(point, above):
    """Forward: the target's level is at least half the set-point; reverse: the extra dual is below 1/(1-b) nat."""
    corpus = point + above
    forward = initial_weight(corpus, point, "forward")
    assert forward == max(1.0, 2 * (corpus - point) / point)
    assert point - (corpus - point) / forward >= 0.5 * point - 1e-12 or forward == 1.0
    for kind in ("reverse", "js"):
        weight = initial_weight(corpus, point, kind)
        assert weight == max(1.0, corpus / point) * (4.0 if kind == "js" else 1.0)
        extra = first_dual(0.5, corpus, point, weight, kind) - first_dual(0.5, point, point, weight, kind)
        assert -1e-12 <= extra <= 1 / (1 - point) + 1e-9


def test_js_pulls_a_quarter_as_strongly_as_reverse_near_its_target():
    target = torch.tensor([[0.5, 0.3, 0.2]]).log()
    near = (target + 1e-2 * torch.tensor([[1.0, -1.0, 0.5]])).log_softmax(-1)
    reverse = token_divergence(near.double(), target.double(), "reverse")
    js = token_divergence(near.double(), target.double(), "js")
    np.testing.assert_allclose((reverse / js).item(), 4.0, rtol=2e-2)


def test_first_dual_is_clipped_to_its_interval():
    assert first_dual(0.01, 0.0, 0.3, 1.0, "reverse") == 0.0
    assert first_dual(0.999999, 0.9, 0.001, 1.0, "reverse") == LOG_FLOOR
    np.testing.assert_allclose(  # a forward level that would be negative stops at a tenth of the set-point
        first_dual(0.5, 0.9, 0.1, 1.0, "forward"), math.log(0.99 / 0.01)
    )


# ------------------------------------------------------------ pure helpers
@few
@given(seeds, st.integers(1, 50), st.floats(-1e4, 1e4))
def test_effective_sample_size_of_equal_and_of_degenerate_weights(seed, count, shift):
    np.testing.assert_allclose(effective_sample_size(np.full(count, shift)), count)
    one = np.full(count, shift - 800.0)
    one[seed % count] = shift
    np.testing.assert_allclose(effective_sample_size(one), 1.0)
    weights = np.random.default_rng(seed).uniform(0.1, 1.0, size=count)
    expected = weights.sum() ** 2 / (weights**2).sum()
    np.testing.assert_allclose(effective_sample_size(np.log(weights) + shift), expected, rtol=1e-6)


@given(st.integers(1, 12), st.integers(0, 40), seeds)
def test_draw_prompts_makes_whole_passes_in_another_order(size, count, seed):
    """Every prompt is drawn floor(count/size) or one more time, in each pass once; equal seeds draw alike."""
    prompts = [TokenRow((i,), (), {}, False) for i in range(size)]
    drawn = [row.prompt[0] for row in draw_prompts(prompts, count, seed)]
    assert len(drawn) == count
    for start in range(0, count, size):
        part = drawn[start : start + size]
        assert len(set(part)) == len(part)
    assert drawn == [row.prompt[0] for row in draw_prompts(prompts, count, seed)]
