"""Value-guided best-first search: the completions with the largest p(y|x) ψ(x, y) that a budget finds."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.auxiliary import AuxiliaryModel
from constraintlang_runtime.data import TokenRow, collate, prediction_sites
from constraintlang_runtime.errors import ConfigError

Tokens = tuple[int, ...]
Judge = Callable[[Sequence[TokenRow]], Sequence[tuple[float, bool]]]
"""For completed rows: log ψ(x, y) by the scorers, and whether the row obeys."""


@dataclass(frozen=True)
class Candidate:
    """A completed row: its log-probability under the model, its log-potential by the scorers, whether it obeys."""

    row: TokenRow
    log_prob: float
    log_potential: float
    obeys: bool
    score: float


@dataclass(frozen=True)
class SearchResult:
    """The best completed rows of one prompt, those that obey first, and the steps that it took.

    ``is_exhausted``: no prefix was left whose estimate beats the last of ``best``. With the exact V, γ = 1 and rows
    that obey, ``best`` is then the exact maximum of p ψ.
    """

    best: tuple[Candidate, ...]
    steps: int
    is_exhausted: bool


@dataclass(frozen=True)
class SearchSettings:
    """``budget`` steps for each prompt: a prefix that the model reads, or a completed row that is scored.

    ``lanes`` steps of a prompt are taken at once; ``frontier`` prefixes are remembered;
    ``keep`` completed rows are returned for each prompt; the model reads ``batch_size`` prefixes per call.
    """

    max_new_tokens: int
    budget: int = 256
    lanes: int = 4
    frontier: int = 1024
    keep: int = 1
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "budget", "lanes", "frontier", "keep", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"best-first search: {name} is {getattr(self, name)}, expected at least 1")
        if self.budget <= self.max_new_tokens:
            raise ConfigError(
                f"best-first search: a budget of {self.budget} steps does not reach the end of a reply of "
                f"{self.max_new_tokens} tokens",
                help="raise the budget (--search_budget) or lower max_new_tokens",
            )


@dataclass(order=True)
class _Open:
    """A prefix that is not expanded; the heap gives the largest estimate first, of equals the oldest."""

    negative_score: float
    number: int
    tokens: Tokens = field(compare=False)
    log_prob: float = field(compare=False)


@dataclass
class _Search:
    """The state of one prompt."""

    prompt: TokenRow
    lanes: list[_Open | None]
    open: list[_Open] = field(default_factory=list)
    found: list[Candidate] = field(default_factory=list)
    steps: int = 0
    dropped: float = float("-inf")
    obeying: list[float] = field(default_factory=list)
    """The scores of the best obeying rows, ascending, at most as many as are returned."""

    def limit(self, keep: int) -> float:
        """The score that a prefix must beat: that of the worst obeying row that would be returned."""
        return self.obeying[0] if len(self.obeying) == keep else float("-inf")

    def add(self, candidate: Candidate, keep: int) -> None:
        """Take a completed row."""
        self.found.append(candidate)
        if candidate.obeys:
            bisect.insort(self.obeying, candidate.score)
            del self.obeying[:-keep]

    def push(self, node: _Open, capacity: int) -> None:
        """Remember a prefix; of too many the worst are forgotten, and the best of those noted."""
        heapq.heappush(self.open, node)
        if len(self.open) > 2 * capacity:
            ordered = sorted(self.open)
            self.open, lost = ordered[:capacity], ordered[capacity:]  # a sorted list is a heap
            self.dropped = max(self.dropped, -lost[0].negative_score)


def best_first(
    model: object,
    head: AuxiliaryModel,
    log_potential: Float[Tensor, " M"],
    prompts: Sequence[TokenRow],
    settings: SearchSettings,
    judge: Judge,
    *,
    end_tokens: Sequence[int],
    pad_id: int,
    exponent: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[SearchResult]:
    """Best-first search over prefixes by score(s) = log p(s|x) + γ log V(s), with greedy dives and pruning.

    Equation: V(s) = E_p[ψ|s] as the auxiliary model has it, so that p(s) V(s) = Σ_{y under s} p(y) ψ(y) bounds the best
    completion under s: for γ = 1 the search is an A* whose estimate is admissible. A completed row (end token, or
    ``max_new_tokens``) is given its true ψ by ``judge`` instead of an estimate. From the best open prefix a lane
    follows the best next token down to a completed row, or until its score is no better than what was already found;
    what it passes by is remembered. The first dive is greedy guided decoding, so the result is never worse than that
    (unless that reply violates).
    Cost: one expansion reads its prefix again, T_x + |s| tokens without a cache, and one row of V logits and M·V
    bin logits; at most ``budget`` steps for each prompt. Deterministic.
    Raises: ConfigError for a budget that cannot complete one reply.
    """
    anchor, results = Anchor(model), []
    ends = frozenset(end_tokens)
    settings = replace(settings, lanes=min(settings.lanes, settings.batch_size))
    at_once = max(1, settings.batch_size // settings.lanes)
    for start in range(0, len(prompts), at_once):
        searches = [_start(prompt, settings) for prompt in prompts[start : start + at_once]]
        numbers = itertools.count(1)
        while steps := [(s, lane) for s in searches for lane in _busy(s, settings)]:
            ready = [_is_completed(_node(s, lane).tokens, ends, settings) for s, lane in steps]
            completed = [step for step, is_done in zip(steps, ready, strict=True) if is_done]
            _judge(completed, judge, exponent, settings.keep)
            batch = [step for step, is_done in zip(steps, ready, strict=True) if not is_done]
            if batch:
                log_probs, scores = _expand(anchor, head, log_potential, exponent, batch, pad_id)
                for number, (search, lane) in enumerate(batch):
                    _descend(search, lane, log_probs[number], scores[number], settings, numbers)
            if progress is not None:
                spent = sum(s.steps for s in searches) + settings.budget * start
                progress(spent, len(prompts) * settings.budget)
        results += [_result(search, settings.keep) for search in searches]
    if progress is not None:
        progress(len(prompts) * settings.budget, len(prompts) * settings.budget)
    return results


def _start(prompt: TokenRow, settings: SearchSettings) -> _Search:
    return _Search(prompt, [_Open(0.0, 0, (), 0.0), *[None] * (settings.lanes - 1)])


def _node(search: _Search, lane: int) -> _Open:
    node = search.lanes[lane]
    assert node is not None
    return node


def _is_completed(tokens: Tokens, ends: frozenset[int], settings: SearchSettings) -> bool:
    return bool(tokens) and (tokens[-1] in ends or len(tokens) == settings.max_new_tokens)


def _busy(search: _Search, settings: SearchSettings) -> list[int]:
    """The lanes that have a step to do now, idle ones filled from the frontier and hopeless ones stopped."""
    limit = search.limit(settings.keep)
    busy: list[int] = []
    for lane, node in enumerate(search.lanes):
        if node is not None and -node.negative_score <= limit:
            node = None
        if lane > 0 and not search.found:
            continue  # the first dive has the budget for itself
        if node is None and search.open and -search.open[0].negative_score > limit:
            node = heapq.heappop(search.open)
        if node is not None and search.steps + len(busy) >= settings.budget:
            search.push(node, settings.frontier)  # not looked into, which the result has to say
            node = None
        search.lanes[lane] = node
        if node is not None:
            busy.append(lane)
    return busy


def _judge(steps: Sequence[tuple[_Search, int]], judge: Judge, exponent: float, keep: int) -> None:
    """Give completed rows their true potential."""
    nodes = [_node(search, lane) for search, lane in steps]
    rows = [replace(s.prompt, completion=node.tokens) for (s, _), node in zip(steps, nodes, strict=True)]
    judged = judge(rows) if rows else []
    for (search, lane), node, row, (own, obeys) in zip(steps, nodes, rows, judged, strict=True):
        search.lanes[lane] = None
        search.steps += 1
        search.add(Candidate(row, node.log_prob, own, obeys, node.log_prob + exponent * own), keep)


@torch.no_grad()
def _expand(
    anchor: Anchor,
    head: AuxiliaryModel,
    log_potential: Tensor,
    exponent: float,
    batch: Sequence[tuple[_Search, int]],
    pad_id: int,
) -> tuple[Tensor, Tensor]:
    """log p(v|s) and log p(v|s) + γ log V(s·v) for the prefixes of a batch, both [B, V] on the CPU."""
    device = next(anchor.model.parameters()).device
    # one token more, which nothing reads: the last site is then the end of the prefix
    rows = [replace(s.prompt, completion=(*_node(s, lane).tokens, pad_id)) for s, lane in batch]
    padded = collate(rows, pad_id)
    sites = prediction_sites(padded.region).to(device)
    padded = padded.to(device)
    logits, inputs = anchor.read_last(padded, sites)
    if head.reads_rows or head.reads_tokens:
        row = torch.nonzero(sites)[:, 0]
        ends = torch.nonzero(torch.diff(row, append=row.new_tensor([len(rows)]))).squeeze(1)
        inputs = head.inputs(padded, sites, anchor.features(padded, sites))[ends]
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    value = head.log_values(inputs, log_potential.to(device))
    return log_probs.cpu(), (log_probs + exponent * value.float()).cpu()


def _descend(
    search: _Search,
    lane: int,
    log_probs: Tensor,
    scores: Tensor,
    settings: SearchSettings,
    numbers: itertools.count[int],
) -> None:
    """The best child of a lane's prefix goes on in the lane, the others wait in the frontier."""
    node = _node(search, lane)
    search.lanes[lane] = None
    search.steps += 1
    limit, width = search.limit(settings.keep), min(settings.frontier, len(scores))
    values, tokens = scores.topk(min(width + 1, len(scores)))
    if len(values) > width:
        search.dropped = max(search.dropped, node.log_prob + float(values[width]))
    for score, token in zip(values[:width].tolist(), tokens[:width].tolist(), strict=True):
        bound = node.log_prob + score
        if bound <= limit or bound == float("-inf"):
            break  # the others are worse
        child = _Open(-bound, next(numbers), (*node.tokens, token), node.log_prob + float(log_probs[token]))
        if search.lanes[lane] is None:
            search.lanes[lane] = child
        else:
            search.push(child, settings.frontier)


def _result(search: _Search, keep: int) -> SearchResult:
    ordered = sorted(search.found, key=lambda c: (not c.obeys, -c.score))
    best_open = max([search.dropped, *(-node.negative_score for node in search.open[:1])])
    return SearchResult(tuple(ordered[:keep]), search.steps, best_open <= search.limit(keep))
