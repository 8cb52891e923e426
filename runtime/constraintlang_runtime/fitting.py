"""Fitting a group's auxiliary model: features of samples and corpus rows, the law at every prompt, what it explains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from constraintlang_compiler.ir import Indicator
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import (
    AuxiliaryData,
    AuxiliaryModel,
    FitReport,
    fit,
    heldout_sequences,
)
from constraintlang_runtime.auxiliary.ensemble import Ensemble
from constraintlang_runtime.auxiliary.fit_members import fit_members
from constraintlang_runtime.auxiliary.make import make_auxiliary
from constraintlang_runtime.auxiliary.samples import site_inputs
from constraintlang_runtime.auxiliary.token_odds import give_token_odds
from constraintlang_runtime.balance import Balance
from constraintlang_runtime.bin_laws import law_of_group, places_of, set_bin_values
from constraintlang_runtime.data import TokenRow, collate, next_tokens, prediction_sites
from constraintlang_runtime.draws import own_draws
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.groups import Group, attach_target
from constraintlang_runtime.rounds import Proposals
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.settings import ConstraintSettings

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
EXPLAINED_SEQUENCES = 1024
MAX_EXPONENT = 8.0
PROPOSAL_WEIGHT = (
    4.0  # a proposal tells more of the rarer side than a sample; any constant leaves the law unbiased
)


@dataclass(frozen=True)
class Fitted:
    """A fit: its report, the law at each prompt [P, M], the samples that it did not train on, and which bins were seen.

    ``seen`` [M] are those that some sample or corpus row was in.
    """

    report: FitReport
    law: Floats
    heldout: AuxiliaryData
    seen: NDArray[np.bool_]


def read_features(
    anchor: Anchor, rows: Sequence[TokenRow], bins: NDArray[np.int64], pad_id: int, batch_size: int
) -> AuxiliaryData:
    """Features of every prediction site of rows under the anchor, with their labels, on the CPU."""
    device = next(anchor.model.parameters()).device
    parts: list[AuxiliaryData] = []
    offset = 0
    kept = [i for i, row in enumerate(rows) if row.completion]
    for start in range(0, len(kept), batch_size):
        chosen = kept[start : start + batch_size]
        batch = collate([rows[i] for i in chosen], pad_id)
        sites = prediction_sites(batch.region)
        moved = batch.to(device)
        if start == 0:
            few = torch.arange(min(2, len(chosen)), device=device)
            anchor.check_head(moved.rows(few), sites[: len(few)].to(device))
        features = anchor.features(moved, sites.to(device))
        sequence = torch.nonzero(sites)[:, 0]
        index = torch.arange(len(sequence)) + offset
        first = torch.ones(len(sequence), dtype=torch.bool)
        first[1:] = sequence[1:] != sequence[:-1]
        parts.append(
            AuxiliaryData(
                features.cpu(),
                next_tokens(batch.input_ids, sites),
                torch.from_numpy(bins[chosen])[sequence],
                sequence + start,
                torch.where(first, torch.full_like(index, -1), index - 1),
            )
        )
        offset += len(sequence)
    if not parts:
        raise TrainingError(
            "every sampled completion is empty", help="check the prompts, the end token and --max_new_tokens"
        )
    return AuxiliaryData(
        torch.cat([p.features for p in parts]), torch.cat([p.tokens for p in parts]),
        torch.cat([p.bins for p in parts]), torch.cat([p.sequence for p in parts]),
        torch.cat([p.follows for p in parts]), [rows[i] for i in kept],
    )  # fmt: skip


@dataclass(frozen=True)
class ScoredCorpus:
    """Training rows of a group and their statistics [n, K]."""

    rows: list[TokenRow]
    statistics: Floats


def corpus_sample(group: Group, config: ConstraintSettings, count: int, seed: int) -> list[TokenRow]:
    """At most ``count`` of the group's training rows; none when the settings leave them out of the fit."""
    if config.auxiliary_corpus_weight == 0:
        return []
    generator = torch.Generator().manual_seed(derived_seed(seed, "corpus rows"))
    order = torch.randperm(len(group.corpus_rows), generator=generator)[:count].tolist()
    return [group.corpus_rows[i] for i in order]


def fit_auxiliary(
    group: Group, anchor: Anchor, rows: Sequence[TokenRow], statistics: Floats, config: ConstraintSettings,
    pad_id: int, *, seed: int, corpus: ScoredCorpus | None = None, progress: Progress | None = None,
    proposals: Proposals | None = None,
) -> Fitted:  # fmt: skip
    """Fit the group's law to scored samples of the anchor, with as many scored corpus rows beside them.

    Corpus rows are labels that cost no sampling. Their continuations are not the anchor's, so they bias the law
    where the anchor writes unlike the corpus; ``auxiliary_corpus_weight: 0`` leaves them out. Which weights are kept
    is decided on held-out samples of the anchor alone. ``proposals`` join the samples with the weights that make them
    unbiased.
    """
    bins = attach_target(group, statistics)
    assert group.target is not None
    data = read_features(anchor, rows, bins, pad_id, config.sampling_batch_size)
    num_own = len(data.rows)
    beside, more = None, None
    seen = np.bincount(bins, minlength=group.target.num_bins) > 0
    if proposals is not None and proposals.rows:
        labels = group.target.bin_index(proposals.statistics)
        seen |= np.bincount(labels, minlength=group.target.num_bins) > 0
        drawn = read_features(anchor, proposals.rows, labels, pad_id, config.sampling_batch_size)
        data = data.followed_by(
            replace(drawn, weights=PROPOSAL_WEIGHT * torch.from_numpy(proposals.weights).float())
        )
    last = group.balance
    if group.head is None:
        with own_draws(derived_seed(seed, "auxiliary")):
            group.head = make_auxiliary(
                anchor, config, group.target.num_bins, good_bin=good_bin(group, config)
            )
    if corpus is not None and corpus.rows:
        labels = group.target.bin_index(corpus.statistics)
        seen |= np.bincount(labels, minlength=group.target.num_bins) > 0
        if group.head.reads_tokens:  # there they say more, and what they go on with does not mislead
            more = corpus.rows, torch.from_numpy(labels)
        else:
            beside = read_features(anchor, corpus.rows, labels, pad_id, config.sampling_batch_size)
    if last is None:
        kept = heldout_sequences(data, derived_seed(seed, "fit"))
        give_token_odds(group.head, data, kept, more, vocab_size=anchor.vocab_size)
    lm_device = next(anchor.model.parameters()).device
    head = group.head.to(lm_device).requires_grad_(True)
    head.attach(anchor)
    train: Callable[..., FitReport] = fit_members if isinstance(head, Ensemble) else fit
    report = train(
        head, data, anchor.logits_from,
        steps=config.auxiliary_steps if last is None else last.steps, of_steps=config.auxiliary_steps,
        learning_rate=config.auxiliary_learning_rate,
        batch_size=config.auxiliary_batch_size, consistency_weight=config.consistency_weight,
        vargrad_weight=config.vargrad_weight, hard_bins=torch.from_numpy(group.target.hard_bins),
        weight_decay=config.auxiliary_weight_decay, seed=derived_seed(seed, "fit"),
        corpus=beside, corpus_weight=config.auxiliary_corpus_weight,
        progress=None if progress is None else lambda done, total: progress("auxiliary", done, total),
    )  # fmt: skip
    head.requires_grad_(False)
    total = config.auxiliary_steps
    group.balance = Balance.of_first(report, total) if last is None else last.after(report, total)
    first = data.follows < 0
    laws = []
    inputs = site_inputs(head, data, torch.nonzero(first).squeeze(1), config.auxiliary_batch_size)
    with torch.no_grad():
        together = max(1, 512 // head.num_bins)  # a law over the bins of every token is formed for each
        for features, part in zip(data.features[first].split(together), inputs.split(together), strict=True):
            logits = anchor.logits_from(features.to(lm_device))
            laws.append(head.prefix_law(part.to(lm_device), logits).exp().double().cpu())
    kept = heldout_sequences(data, derived_seed(seed, "fit"))
    kept[num_own:] = False  # what the law explains is measured on samples of the anchor
    if not kept.any():  # none of them is held out: on all, as in ``heldout_sequences``
        kept[:num_own] = True
    heldout = replace(data.of_sequences(kept), weights=None)
    law = torch.cat(laws).numpy()
    if group.controllers:
        set_bin_values(group, law_of_group(group, law, statistics, places_of(rows, len(statistics), law)))
    return Fitted(report, law, heldout, seen)


def check_forms(groups: Sequence[Group], config: ConstraintSettings) -> None:
    """Raise ConfigError for clauses that `adaptive: prompt` or an `adapter` has no form for."""
    if config.method != "constraint":
        return
    for group in groups:
        plain = [isinstance(clause.statistic, Indicator) for clause in group.clauses]
        names = ", ".join(f"`{clause.name}`" for clause in group.clauses)
        if config.adaptive == "prompt" and (plain != [True] or group.clauses[0].hard):
            raise ConfigError(
                f"adaptive: `prompt` works with one chance clause per domain; `{group.name}` has {names}",
                help="use --adaptive domain",
            )
        if config.auxiliary == "adapter" and plain != [True]:
            raise ConfigError(
                f"auxiliary: an `adapter` predicts one binary statistic, and {names} of `{group.name}` need more",
                help="use --auxiliary head or transformer, or bound one indicator, such as P(...)",
            )


def check_paths(groups: Sequence[Group], config: ConstraintSettings) -> None:
    """Raise ConfigError when path consistency is asked for and a fit would see most prompts only once."""
    if config.vargrad_weight == 0 or config.method != "constraint":
        return
    moving = config.regularizer.is_moving
    counts = {"anchor_samples": config.anchor_samples} | (
        {"control_samples": config.control_samples} if moving else {}
    )
    for group in groups:
        num_prompts = len({row.prompt for row in group.prompts})
        for name, count in counts.items():
            if count < 2 * num_prompts:
                raise ConfigError(
                    f"vargrad_weight: it compares completions of one prompt, and --{name} {count} does not draw each "
                    f"of the {num_prompts} prompts of `{group.name}` twice",
                    help=f"raise --{name} to {2 * num_prompts}, give fewer prompts, or leave vargrad_weight out",
                )


def good_bin(group: Group, config: ConstraintSettings) -> int | None:
    """The wanted one of two bins; None when there are more.

    Raises: ConfigError when the settings ask for an adapter, which has one binary statistic.
    """
    assert group.target is not None
    if group.target.num_bins == 2:
        return 1 if group.target.hard else 0
    if config.auxiliary == "adapter":
        names = ", ".join(f"`{clause.name}`" for clause in group.clauses)
        raise ConfigError(
            f"auxiliary: an `adapter` predicts one binary statistic, {names} of `{group.name}` have "
            f"{group.target.num_bins} bins",
            help="use --auxiliary head or transformer, or bound one indicator, such as P(...) or a pointwise clause",
        )
    return None


@torch.no_grad()
def explained_share(
    head: AuxiliaryModel, data: AuxiliaryData, anchor: Anchor, energy: Float[Tensor, " M"]
) -> float:
    """Share of the variance of the energy e = -log ψ within a prompt that the law's token preferences explain.

    Equation: with advantages A_t = E_π[e | s_t y_t] - Σ_v p_ref(v|s_t) E_π[e | s_t v], the share is
    Cov(e, Σ_t A_t) / E Var(e | x), over sequences that the fit did not see; the derivative of E[e] along the tilt
    p_ref V^γ at γ = 0, relative to that of the exact tilt, whose share is 1. The prompt's variance is bounded by the
    squared error of the law at the first site. Units: none. Returns 0 when nothing is explained.
    """
    device = next(anchor.model.parameters()).device
    kept = data.sequence < data.sequence.unique()[:EXPLAINED_SEQUENCES].max() + 1
    numbers, index = data.sequence[kept].unique(return_inverse=True)
    features, tokens, bins = data.features[kept], data.tokens[kept], data.bins[kept]
    means, chosen = [], []
    inputs = site_inputs(head, data, torch.nonzero(kept).squeeze(1))
    together = max(1, 512 // head.num_bins)
    for start in range(0, len(features), together):
        part = features[start : start + together].to(device)
        laws = head.all_tokens(inputs[start : start + together].to(device)).exp()
        value = (laws * energy.to(device)).sum(-1)  # [S, V]
        law = torch.softmax(anchor.logits_from(part).float(), dim=-1)
        means.append((law * value).sum(-1).cpu())
        chosen.append(value.gather(1, tokens[start : start + together, None].to(device)).squeeze(1).cpu())
    mean, advantage = torch.cat(means), torch.cat(chosen) - torch.cat(means)
    total = torch.zeros(len(numbers)).index_add(0, index, advantage)
    first = data.follows[kept] < 0
    actual = energy[bins[first]]
    within = float((actual - mean[first]).square().mean())
    if within <= 0:
        return 0.0
    return max(0.0, float(((actual - actual.mean()) * total).mean()) / within)


def potential_exponent(share: float) -> float:
    """γ of the tilt p_ref V^γ: 1/share, between 1 and 8, so that its effect is that of the exact projection.

    To first order E[e] falls by γ · share · Var(e | x) where the exact tilt takes Var(e | x).
    """
    return min(MAX_EXPONENT, max(1.0, 1.0 / max(share, 1e-6)))
