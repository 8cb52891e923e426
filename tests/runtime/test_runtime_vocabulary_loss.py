"""The chunked loss against the plain formula in float64: values, gradients, precisions, chunks and memory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from world_policy import first_dual

from constraintlang_runtime import output_head
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import AuxiliaryHead
from constraintlang_runtime.batching import joined
from constraintlang_runtime.chunked_loss import ChunkedLoss
from constraintlang_runtime.control import initial_weight
from constraintlang_runtime.data import TokenRow, collate
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.micro_batch import GroupRows, MicroBatch
from constraintlang_runtime.mishaps import not_finite
from constraintlang_runtime.output_head import OutputHead
from constraintlang_runtime.regularizer import divergence_and_gradient, token_divergence
from constraintlang_runtime.settings import RegularizerConfig
from constraintlang_runtime.step_loss import plain_loss
from constraintlang_runtime.vocabulary_loss import DivergenceTerm, LabelTerm, vocabulary_loss

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # in peft
DIVERGENCES = ("forward", "reverse", "js", "alpha")
SITES, VOCAB, HIDDEN = 23, 37, 8
FORMS = {
    "plain": (False, 1.0, None),
    "bias": (True, 1.0, None),
    "cap": (False, 1.0, 3.0),
    "all": (True, 0.5, 2.0),
}


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def numbers(form: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, OutputHead]:
    """Hidden states and a head, leaves that want gradients."""
    has_bias, scale, cap = FORMS[form]
    bias = normal(VOCAB, seed=2, dtype=dtype).requires_grad_() if has_bias else None
    weight = normal(VOCAB, HIDDEN, seed=1, dtype=dtype).requires_grad_()
    return normal(SITES, HIDDEN, seed=0, dtype=dtype).requires_grad_(), OutputHead(weight, bias, scale, cap)


def terms_of(kind: Any, alpha: float = 0.3, weight: float | Tensor = 1.0) -> list[Any]:
    """Labels at most sites, one divergence at some and another at others, so that sites have none, one or several."""
    labelled, tilted, held = (
        torch.arange(0, SITES - 4),
        torch.arange(3, SITES, 2),
        torch.tensor([1, 5, 6, 20]),
    )
    target, other = (torch.log_softmax(2 * normal(SITES, VOCAB, seed=s), -1) for s in (5, 6))
    return [
        LabelTerm(labelled, (labelled * 7) % VOCAB, weight),
        DivergenceTerm(tilted, lambda window: target[tilted[window]], kind, alpha, 1.7),
        DivergenceTerm(held, lambda window: other[held[window]], "forward", weight=0.4),
    ]


def plain(hidden: Tensor, head: OutputHead, terms: list[Any]) -> Tensor:
    """The formula, in the precision of its arguments, through autograd."""
    raw = hidden @ head.weight.T + (0 if head.bias is None else head.bias)
    raw = raw * head.scale
    log_probs = torch.log_softmax(torch.tanh(raw / head.cap) * head.cap if head.cap else raw, dim=-1)
    total = hidden.new_zeros(())
    for term in terms:
        own = log_probs[term.sites]
        if isinstance(term, LabelTerm):
            weighted = term.weight * -own.gather(1, term.labels[:, None]).squeeze(1)
            total = total + weighted.sum()
            continue
        else:
            target = term.target(slice(0, len(term.sites)))
            value = token_divergence(own, target.to(own.dtype), term.divergence, term.alpha).sum()
        total = total + term.weight * value
    return total


def gradients(loss: Tensor, hidden: Tensor, head: OutputHead) -> list[Tensor]:
    leaves = [x for x in (hidden, head.weight, head.bias) if x is not None]
    return list(torch.autograd.grad(3.0 * loss, leaves))  # a factor, as accumulation and ranks give one


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", DIVERGENCES)
def test_it_is_the_plain_formula_in_float64_for_every_chunk(kind: str, form: str, weighted: bool) -> None:
    hidden, head = numbers(form)
    terms = terms_of(kind, weight=normal(SITES - 4, seed=9).abs() if weighted else 1.0)
    expected = plain(hidden, head, terms)
    expected_gradients = gradients(expected, hidden, head)
    for chunk in (1, 7, SITES, 1000):
        loss, sums = vocabulary_loss(hidden, head, terms, chunk)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(sums.sum(), expected.detach(), rtol=1e-12, atol=1e-12)
        for mine, its in zip(gradients(loss, hidden, head), expected_gradients, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_closed_form_gradients_of_the_divergences(kind: Any) -> None:
    logits = normal(6, 9, seed=0).requires_grad_()
    target = torch.log_softmax(normal(6, 9, seed=1), -1)
    for alpha in (0.01, 0.5, 0.99):
        log_probs = torch.log_softmax(logits, -1)
        each = token_divergence(log_probs, target, kind, alpha)
        (expected,) = torch.autograd.grad(each.sum(), logits)
        value, gradient = divergence_and_gradient(log_probs.detach(), target, kind, alpha)
        torch.testing.assert_close(value, each.detach())
        torch.testing.assert_close(gradient, expected)


def test_alpha_lies_between_its_limits_and_has_their_curvature() -> None:
    """D_α tends to forward at 1 and to reverse at 0; near p = q̂ every one of the three is χ²/2."""
    p, q = (torch.log_softmax(normal(50, 20, seed=s), -1) for s in (0, 1))
    forward, reverse = (token_divergence(p, q, kind) for kind in ("forward", "reverse"))
    for alpha, limit in ((0.9999, forward), (0.0001, reverse)):
        torch.testing.assert_close(token_divergence(p, q, "alpha", alpha), limit, rtol=3e-3, atol=3e-3)
    near = torch.log_softmax(p + 1e-3 * normal(50, 20, seed=2), -1)
    chi = ((near.exp() - p.exp()).square() / p.exp()).sum(-1) / 2
    for kind in ("forward", "reverse", "alpha"):
        torch.testing.assert_close(token_divergence(p, near, kind), chi, rtol=1e-2, atol=1e-12)
    hellinger = 2 * (p.mul(0.5).exp() - q.mul(0.5).exp()).square().sum(-1)
    torch.testing.assert_close(token_divergence(p, q, "alpha", 0.5), hellinger)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_half_and_single_precision_stay_near_float64(
    kind: str, form: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Relative to the largest number: 1e-5 for float32, 2e-2 for bfloat16, whose products have 8 bits."""
    hidden, head = numbers(form, dtype)
    terms = terms_of(kind)
    loss, _ = vocabulary_loss(hidden, head, terms, 5)
    assert loss.dtype == torch.float32
    exact = [
        None if x is None else x.detach().double().requires_grad_() for x in (hidden, head.weight, head.bias)
    ]
    assert exact[0] is not None
    assert exact[1] is not None
    exact_head = head.with_tensors(exact[1], exact[2])
    expected = plain(exact[0], exact_head, terms)
    assert abs(loss.item() / expected.item() - 1) < tolerance
    pairs = zip(gradients(loss, hidden, head), gradients(expected, exact[0], exact_head), strict=True)
    for mine, its in pairs:
        assert mine.dtype == dtype
        assert (mine.double() - its).abs().max() < tolerance * its.abs().max()


def test_a_sum_over_sites_does_not_leave_the_range_of_float16() -> None:
    """Gradients are formed before a trainer scales its loss, so that no scale could bring them back."""
    hidden, head = numbers("plain", torch.float16)
    label = torch.zeros(SITES, dtype=torch.long)
    terms = [LabelTerm(torch.arange(SITES), label, torch.full((SITES,), 2e4))]
    loss, _ = vocabulary_loss(hidden * 4, head, terms, SITES)
    (found,) = torch.autograd.grad(loss * 1e-3, [head.weight])
    assert bool(found.isfinite().all())


def test_autocast_sets_the_precision_of_the_products_and_of_nothing_else() -> None:
    hidden, head = numbers("all", torch.float32)
    terms = terms_of("reverse")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = vocabulary_loss(hidden, head, terms, 5)
    assert loss.dtype == torch.float32
    lowered = [
        x.detach().bfloat16().requires_grad_() for x in (hidden, head.weight, head.bias) if x is not None
    ]
    same, _ = vocabulary_loss(lowered[0], head.with_tensors(lowered[1], lowered[2]), terms, 5)
    assert torch.equal(loss, same)
    assert all(g.dtype == torch.float32 for g in gradients(loss, hidden, head))


def test_a_frozen_head_gets_no_gradient_and_costs_none() -> None:
    hidden, head = numbers("plain")
    terms = terms_of("js")
    frozen = replace(head, weight=head.weight.detach())
    with Largest() as largest:
        loss, _ = vocabulary_loss(hidden, frozen, terms, 2)
    (mine,) = torch.autograd.grad(loss, [hidden])
    torch.testing.assert_close(mine, gradients(plain(hidden, head, terms), hidden, head)[0] / 3)
    assert largest.count < VOCAB * HIDDEN


# ------------------------------------------------------------ through models
def model_of(family: str, vocab_size: int = 512) -> Any:
    """Two layers of width 16."""
    import transformers

    shape = {
        "vocab_size": vocab_size, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
    }  # fmt: skip
    made = {
        "tied": ("Llama", {"tie_word_embeddings": True}),
        "untied": ("Llama", {"tie_word_embeddings": False}),
        "bias": ("Phi", {"tie_word_embeddings": False}),
        "soft cap": ("Gemma2", {"final_logit_softcapping": 5.0, "head_dim": 8, "sliding_window": 16}),
        "divided": ("Granite", {"logits_scaling": 4.0}),
        "multiplied": ("Cohere", {"logit_scale": 0.25}),
        "unknown": ("FalconH1", {}),
    }
    name, more = made[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**shape | more)
        model = getattr(transformers, f"{name}ForCausalLM")(config)
        if family == "bias":
            torch.nn.init.normal_(model.lm_head.bias)
    return model


class FixedGroup(Group):
    """A group with a head of three bins and fixed potentials."""

    weight = 2.0  # type: ignore[assignment]

    def log_potential(self) -> Tensor:
        return torch.tensor([0.0, -3.0, -6.0])


def fixed_group(anchor: Anchor) -> Group:
    head = (
        AuxiliaryHead(anchor.feature_size, anchor.vocab_size, 3, rank=4, width=8).requires_grad_(False).eval()
    )
    head.token_bias.copy_(2 * torch.randn(head.token_bias.shape))
    return FixedGroup("g", (), (), [], 0.5, np.zeros(0), head=head, fitted_exponent=1.3)


def micro_batch(
    model: Any, num_rows: int = 5, length: int = 24, vocab_size: int = 512, weights: Tensor | None = None
) -> MicroBatch:
    """Corpus rows, sampled rows, a group with a tilt, a preserved row, and anchors that differ from the student."""
    generator = torch.Generator().manual_seed(1)

    def row(size: int, train_prompt: bool) -> TokenRow:
        ids = torch.randint(2, vocab_size, (size,), generator=generator).tolist()
        return TokenRow(tuple(ids[:3]), tuple(ids[3:]), {}, train_prompt)

    corpus = collate([row(length - i, i % 2 == 0) for i in range(num_rows)], 0)
    batch, slices = joined(corpus, {0: [row(length - 2 * i, False) for i in range(3)]}, 0)
    anchor = Anchor.snapshot(model)
    assert anchor.weights is not None
    for weight in anchor.weights.values():
        weight.mul_(1.2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        group = fixed_group(anchor)
    rows = GroupRows(group, torch.tensor([0, 2, 3]), slices[0], 30.0)
    return MicroBatch(
        corpus, batch, [rows], anchor, [(torch.tensor([1]), 0.7), (torch.tensor([4]), 0.7)], anchor, weights
    )


def total_and_gradient(model: Any, loss: Any) -> tuple[float, Tensor]:
    model.zero_grad()
    loss.total.backward()
    parts = loss.language_model + sum(loss.regularizer.values()) + 0.7 * loss.preservation
    assert abs(parts / loss.total.item() - 1) < 1e-5
    assert loss.preservation > 0
    assert loss.regularizer["g"] > 0
    return loss.total.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 1.5, 1.5, 1.0, 3.0])], ids=["", "weighted"])
@pytest.mark.parametrize("chunk", [1, 7, 4096])
@pytest.mark.parametrize("family", ["tied", "untied", "bias", "soft cap", "divided", "multiplied"])
def test_models_have_the_loss_and_the_gradient_of_the_plain_path(
    family: str, chunk: int, weights: Tensor | None
) -> None:
    model = model_of(family)
    config = RegularizerConfig(divergence="js", chunk_sites=chunk, loss="chunked")
    batch = micro_batch(model, weights=weights)
    value, gradient = total_and_gradient(model, plain_loss(model, batch, config))
    found = ChunkedLoss(model, config)(model, batch, batch.sites(config))
    assert found is not None
    mine, own = total_and_gradient(model, found)
    assert abs(mine / value - 1) < 1e-5
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(own, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_and_gradient_checkpointing_have_it_too(checkpointing: bool) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        model_of("tied"), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.3)
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    config = RegularizerConfig(chunk_sites=7, loss="chunked")
    batch = micro_batch(model)
    value, gradient = total_and_gradient(model, plain_loss(model, batch, config))
    found = ChunkedLoss(model, config)(model, batch, batch.sites(config))
    assert found is not None
    mine, own = total_and_gradient(model, found)
    assert abs(mine / value - 1) < 1e-5
    torch.testing.assert_close(own, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_a_head_that_does_more_falls_back_or_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A model whose logits are not its head's, and one whose head carries an adapter."""
    from peft import LoraConfig, get_peft_model

    odd = model_of("tied")
    forward = odd.lm_head.forward
    odd.lm_head.forward = lambda hidden: 2 * forward(hidden)
    config = RegularizerConfig(chunk_sites=7)
    batch = micro_batch(odd)
    chunked = ChunkedLoss(odd, config)
    assert chunked.supports
    assert chunked(odd, batch, batch.sites(config)) is None
    assert not chunked.supports
    assert "not its output embeddings" in caplog.text
    with pytest.raises(ConfigError, match="use --loss plain"):
        ChunkedLoss(odd, replace(config, loss="chunked"))(odd, batch, batch.sites(config))
    adapted = get_peft_model(
        model_of("untied"), LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM")
    )
    assert not ChunkedLoss(adapted, config).supports
    with pytest.raises(ConfigError, match="one whole matrix"):
        ChunkedLoss(adapted, replace(config, loss="chunked"))


class Quantized(Tensor):
    """A tensor class without comparisons, as quantizers have them."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.isfinite:
            raise NotImplementedError("unimplemented operator")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_quantized_weights_pass_the_check_of_numbers_and_take_the_plain_path() -> None:
    weight = torch.zeros(2, 2).as_subclass(Quantized)
    assert not_finite({"first": weight, "second": torch.tensor([1.0])}) is None
    assert not_finite({"first": weight, "second": torch.tensor([float("nan")])}) == "second"
    model = model_of("untied")
    assert OutputHead.of(model) is not None
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().as_subclass(Quantized))
    assert OutputHead.of(model) is None


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes; views and aliases are not made."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        there = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in there:
                self.count = max(self.count, tensor.numel())
        return made


@pytest.mark.parametrize("adaptive", ["domain", "prompt"])
def test_no_tensor_is_larger_than_one_chunk_of_logits(adaptive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Student, anchor, auxiliary model and backward pass: at most chunk x V numbers; the plain path has sites x V."""
    import constraintlang_runtime.penalty as penalty

    monkeypatch.setattr(
        penalty, "prompt_log_potential", lambda group, success: -torch.outer(success, torch.arange(3.0))
    )
    model, chunk, vocab = model_of("tied"), 16, 512
    config = RegularizerConfig(chunk_sites=chunk, loss="chunked", adaptive=adaptive)
    batch = micro_batch(model)
    sites = batch.sites(config)
    assert int(sites.sum()) > 5 * chunk
    with Largest() as largest:
        found = ChunkedLoss(model, config)(model, batch, sites)
        assert found is not None
        found.total.backward()
    assert largest.count == chunk * vocab  # which the head's own gradient, V x H, is here too
    with Largest() as largest:
        plain_loss(model, batch, config).total.backward()
    assert largest.count >= int(sites.sum()) * vocab


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.5, 0.8, 0.99])
def test_alphas_weight_and_first_dual_lie_between_those_of_its_limits(alpha: float) -> None:
    """And at the set-point b the pull of the corpus and of D on a rate balance, to the normaliser that is left out.

    Stationary in p at p = b: ((1-q)/(1-b))^α - (q/b)^α = α (d-b) / (ρ b (1-b)), q the rate of the target.
    """
    r, d, b = 0.4, 0.3, 0.05
    weights = [initial_weight(d, b, kind, alpha) for kind in ("reverse", "alpha", "forward")]
    assert weights == sorted(weights)
    rho = weights[1]
    duals = [first_dual(r, d, b, rho, kind, alpha) for kind in ("reverse", "alpha", "forward")]
    assert duals == sorted(duals)
    odds = r / (1 - r) * math.exp(-duals[1])
    q = odds / (1 + odds)
    pull = alpha * (d - b) / (rho * b * (1 - b))
    assert abs((((1 - q) / (1 - b)) ** alpha - (q / b) ** alpha) / pull - 1) < 0.02


# ------------------------------------------------------------ what a step need not do twice
def sampled_are_short(model: Any) -> MicroBatch:
    """Sampled rows of a third of the corpus rows' length, no preserved rows."""
    generator = torch.Generator().manual_seed(3)

    def row(size: int) -> TokenRow:
        ids = torch.randint(2, 512, (size,), generator=generator).tolist()
        return TokenRow(tuple(ids[:3]), tuple(ids[3:]), {}, True)

    corpus = collate([row(24 - i) for i in range(4)], 0)
    batch, slices = joined(corpus, {0: [row(8), row(6), row(7)]}, 0)
    anchor = Anchor.snapshot(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        group = fixed_group(anchor)
    for weight in (anchor.weights or {}).values():
        weight.mul_(1.2)
    return MicroBatch(corpus, batch, [GroupRows(group, torch.tensor([0, 2]), slices[0], 30.0)], anchor)


def loss_and_gradient(model: Any, found: Any) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    found.total.backward()
    return found.total.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


def widths_of_passes(model: Any) -> list[tuple[int, int]]:
    """The shapes of what the model is called with from here on."""
    seen: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda module, args, options: seen.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    return seen


def test_short_sampled_rows_take_a_pass_of_their_own_width() -> None:
    model = model_of("tied")
    batch = sampled_are_short(model)
    config = RegularizerConfig(chunk_sites=7, loss="chunked")
    expected = loss_and_gradient(model, plain_loss(model, batch, config))
    chunked, sites = ChunkedLoss(model, config), batch.sites(config)
    seen = widths_of_passes(model)
    found = loss_and_gradient(model, chunked(model, batch, sites))
    assert seen[:2] == [(4, 24), (3, 8)]
    assert (3, 8) in seen[2:]  # and the anchor reads them at their own width, too
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5 * float(expected[1].abs().max()))


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_a_current_anchor_is_the_students_own_pass(kind: Any) -> None:
    model = model_of("tied").eval()
    batch = replace(sampled_are_short(model), anchor=Anchor(model))
    config = RegularizerConfig(chunk_sites=7, loss="chunked", divergence=kind)
    expected = loss_and_gradient(model, plain_loss(model, batch, config))
    chunked, sites = ChunkedLoss(model, config), batch.sites(config)
    seen = widths_of_passes(model)
    found = loss_and_gradient(model, chunked(model, batch, sites))
    assert len(seen) == 2  # the student's alone
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5 * float(expected[1].abs().max()))


def test_a_student_that_drops_out_is_not_its_own_anchor() -> None:
    """The anchor is the model without dropout."""
    model = model_of("tied")
    model.config.attention_dropout = 0.5
    batch = replace(sampled_are_short(model), anchor=Anchor(model))
    config = RegularizerConfig(chunk_sites=7, prefixes="mixed", loss="chunked")
    chunked, seen = ChunkedLoss(model, config), widths_of_passes(model)
    assert chunked(model, batch, batch.sites(config)) is not None
    assert len(seen) == 4


@pytest.mark.parametrize("num_bins", [2, 3, 5])
@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("per_site", [False, True])
def test_values_of_the_head_are_those_of_its_law_in_float64(
    num_bins: int, raised: bool, per_site: bool
) -> None:
    """However small V is: log V to 1e-5 where one bin has all the mass and the least potential."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        head = AuxiliaryHead(2 * HIDDEN, VOCAB, num_bins, rank=4, width=8).requires_grad_(False).eval()
    for weight in (head.token_bias, head.query.weight, head.state.weight):
        weight.copy_(6 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)))
    features = normal(SITES, 2 * HIDDEN, seed=6, dtype=torch.float32)
    potential = torch.linspace(0.0, -12.0, num_bins)
    potential = potential.flip(0) if raised else potential
    if per_site:
        potential = torch.stack([potential * (i % 3) / 2 for i in range(SITES)])
    law = head.all_tokens(features).double()
    psi = potential.double() if potential.dim() == 1 else potential.double()[:, None]
    expected = torch.logsumexp(law + psi, dim=-1)
    assert expected.min() < -11.9
    torch.testing.assert_close(head.log_values(features, potential).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("number", "products"),
    [(63, [63, 63]), (64, [64, 64]), (250, [128, 128, 128, 128]), (130, [128, 128, 64, 2])],
)
def test_blocks_of_rows_change_no_loss_and_no_gradient(
    number: int, products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In half precision on a CPU products have a multiple of 64 rows, from 64 on; in float32 as many as there are."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 16, generator=generator) for n in (number, 50))
    labels, original = torch.randint(50, (number,), generator=generator), torch.nn.functional.linear
    sizes: list[int] = []

    def linear(some: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(some))
        return original(some, *rest)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    found = []
    for precision, block in ((torch.bfloat16, 64), (torch.bfloat16, 1), (None, 64)):
        monkeypatch.setattr(output_head, "BLOCK", block)
        own, states = weight.clone().requires_grad_(), hidden.clone().requires_grad_()
        anchor = OutputHead(1.1 * weight, None, 1.0, None, precision).cast()
        target = lambda window, head=anchor: head.logits(hidden[window]).log_softmax(-1)  # noqa: E731
        every = torch.arange(number)
        terms = [LabelTerm(every, labels), DivergenceTerm(every, target, "reverse")]
        sizes.clear()
        total, sums = vocabulary_loss(states, OutputHead(own, None, 1.0, None, precision), terms, 128)
        total.backward()  # type: ignore[no-untyped-call]
        assert states.grad is not None
        assert states.grad.shape == hidden.shape
        assert sizes == products or not (precision and block == 64)
        assert sum(sizes) == 2 * number or (precision and block == 64)
        found.append((total.detach(), sums, states.grad, own.grad))
    torch.testing.assert_close(found[0], found[1], atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(found[0][:2], found[2][:2], atol=0.1, rtol=0.02)  # of bfloat16
