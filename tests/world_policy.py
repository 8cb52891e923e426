"""Clauses on an enumerable world, and what the runtime makes of them: bins, potentials, token targets, groups."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from enumerable_world import Floats, Ints, World
from tabular_model import ExactHead

from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.ir import AttributeRef, Clause, Comparison, Const, FlagRef, Indicator, Value
from constraintlang_compiler.targets import Target, build_target
from constraintlang_runtime.control import ControllerState, start_duals
from constraintlang_runtime.groups import Group
from constraintlang_runtime.projection import LOG_FLOOR, GroupLaw, project_groups
from constraintlang_runtime.regularizer import log_values, target_log_probs, token_divergence


def chance_duals(success: Floats, bound: float, max_dual: float = LOG_FLOOR) -> Floats:
    """λ(x) = max(0, logit(1-δ) - logit R(x)) of a chance clause that holds for each prompt, R(x) = ``success`` [P]."""
    return np.clip(np.log((1 - bound) / bound) - np.log(success / (1 - success)), 0.0, max_dual)


def first_dual(
    anchor_rate: float, corpus_rate: float, point: float, weight: float, kind: str, alpha: float = 0.5
) -> float:
    """``start_duals`` for one group under one chance clause."""
    law = np.array([[1 - anchor_rate, anchor_rate]])
    group = GroupLaw(law, np.array([[0.0], [1.0]]), np.zeros(2, bool), np.ones(1, bool))
    points = np.array([point])
    found = start_duals(
        [group], points, project_groups([group], points), corpus=np.array([[corpus_rate]]),
        weights=np.array([weight]), divergence=kind, alpha=alpha,
    )  # fmt: skip
    return float(found[0])


NO_FLOOR = 60.0  # in place of Λ where a test compares with the unfloored law


def never(flag: str) -> Clause:
    """A hard clause: the flag is never set."""
    statistic = Indicator(predicate=FlagRef(name=flag))
    return _clause(f"never {flag}", "violation", statistic, hard=True)


def rarely(attribute: str, threshold: float) -> Clause:
    """A chance clause: the attribute rarely reaches the threshold."""
    reached = Comparison(op="ge", left=AttributeRef(name=attribute), right=Const(value=f"{threshold:g}"))
    return _clause(f"rarely {attribute} >= {threshold:g}", "violation", Indicator(predicate=reached))


def low_mean(attribute: str, high: str | None) -> Clause:
    """A bound on the mean of an attribute in [0, high]."""
    return _clause(f"mean {attribute}", "mean", Value(term=AttributeRef(name=attribute), high=high))


def _clause(text: str, kind: str, statistic: Indicator | Value, *, hard: bool = False) -> Clause:
    bound = "0" if hard else "0.1"
    digest = hashlib.sha256(text.encode()).hexdigest()  # any id that is well formed
    return Clause(
        id=f"sha256:{digest}",
        label=None,
        text=text,
        kind=kind,
        statistic=statistic,
        bound=bound,
        strict=False,
        hard=hard,
    )


@dataclass(frozen=True, eq=False)
class Case:
    """Clauses on a world: statistics ``f`` [P, N, K], the compiler's target, the bins [P, N] and their values."""

    world: World
    clauses: tuple[Clause, ...]
    f: Floats
    target: Target
    bins: Ints
    bin_values: Floats

    @property
    def soft(self) -> Floats:
        """The statistics of the soft clauses [P, N, S]."""
        return self.f[:, :, [soft.clause for soft in self.target.soft]]

    @property
    def allowed(self) -> Floats:
        """1 where no hard clause is violated [P, N]."""
        return (self.f[:, :, list(self.target.hard)] == 0).all(axis=-1).astype(np.float64)

    def potential(self, duals: Floats) -> Floats:
        """ψ of every sequence from its own statistics, no bins, no floor [P, N]."""
        return self.allowed * np.exp(-(self.soft @ duals))

    def log_potential(self, duals: Floats, floor: float = NO_FLOOR) -> Floats:
        """The compiler's log ψ of the bins [M]."""
        return self.target.log_potential(np.asarray(duals, dtype=np.float64), self.bin_values, floor)

    def token_targets(self, law: Floats, log_potential: Floats) -> Floats:
        """The runtime's q̂(v|x, s) [P, S, V] for an anchor of this law and its exact bin law."""
        with np.errstate(divide="ignore"):
            after = np.log(self.world.bin_law(law, self.bins, self.target.num_bins)[:, self.world.child])
        return np.stack(
            [
                target_log_probs(torch.from_numpy(logits), log_values(torch.from_numpy(pi), psi))
                .exp()
                .numpy()
                for logits, pi in zip(np.log(self.world.next_token(law)), after, strict=True)
                for psi in [torch.from_numpy(log_potential)]
            ]
        ).astype(np.float64)

    def group(self, duals: Floats, *, weight: float = 1.0) -> Group:
        """The runtime's group with the exact law as its auxiliary model."""
        world = self.world
        law = world.bin_law(world.law, self.bins, self.target.num_bins)
        states = [ControllerState(value=float(dual), weight=weight, set_point=0.1) for dual in duals]
        return Group(
            "all", self.clauses, tuple(range(len(self.clauses))), [], 1.0, np.zeros(len(self.clauses)),
            target=self.target, head=ExactHead(world, law), bin_values=self.bin_values, controllers=states,
        )  # fmt: skip


KINDS = (
    ("never",),
    ("rarely",),
    ("never", "rarely"),
    ("rarely", "rarely other"),
    ("never", "rarely", "rarely other"),
)


def duals_of(case: Case, dual: float) -> Floats:
    """One dual for each soft clause, not all equal."""
    return dual * np.linspace(1.0, 0.5, len(case.target.soft))


def make_case(world: World, *kinds: str) -> Case:
    """A case with one clause for each kind: ``never``, ``rarely``, ``rarely other``, ``mean``, ``length``."""
    attributes = {
        "slur": world.contains(world.vocab_size - 1),
        "toxicity": world.score(1),
        "other": world.score(2),
        "length": world.length(),
    }
    makers = {
        "never": lambda: never("slur"),
        "rarely": lambda: rarely("toxicity", float(np.median(attributes["toxicity"]).round(3))),
        "rarely other": lambda: rarely("other", float(np.quantile(attributes["other"], 0.7).round(3))),
        "mean": lambda: low_mean("toxicity", "1"),
        "length": lambda: low_mean("length", None),
    }
    clauses = tuple(makers[kind]() for kind in kinds)
    scores = {name: values.ravel() for name, values in attributes.items()}
    flat = statistics(clauses, scores)
    target = build_target(clauses, range(len(clauses)), samples=flat)
    bins = target.bin_index(flat)
    shape = (world.num_prompts, len(world.sequences))
    weights = (world.prompt_law[:, None] * world.law).ravel()
    values = np.zeros((target.num_bins, len(target.soft)))
    for m in range(target.num_bins):
        inside = weights * (bins == m)
        if not target.hard_bins[m] and inside.sum() > 0:
            values[m] = inside @ flat[:, [soft.clause for soft in target.soft]] / inside.sum()
    for column, soft in enumerate(target.soft):
        if soft.is_indicator:  # an empty bin of an indicator has its value all the same
            values[:, column] = target.bin_values(flat, bins)[:, column]
    return Case(world, clauses, flat.reshape(*shape, -1), target, bins.reshape(shape), values)


def divergences(student: Floats, targets: Floats, kind: str) -> Floats:
    """The runtime's ``token_divergence`` between tables at every prompt and prefix [P, S]."""
    logs = [torch.from_numpy(np.log(table)).flatten(0, 1) for table in (student, targets)]
    return token_divergence(logs[0], logs[1], kind).reshape(student.shape[:2]).numpy()


def moved_table(world: World, change: Floats) -> Floats:
    """The world's table with its logits changed."""
    unnormalised = world.table * np.exp(change)
    return unnormalised / unnormalised.sum(axis=-1, keepdims=True)


def detached_slope(case: Case, strengths: Floats, direction: Floats) -> float:
    """The directional derivative that the runtime's loss has: forward token KL over q-prefixes, q̂ detached."""
    world = case.world
    targets = torch.from_numpy(case.token_targets(world.law, case.log_potential(strengths)))
    projected, _ = world.tilt(world.law, case.potential(strengths))
    weights = torch.from_numpy(world.prompt_law[:, None] * world.occupancy(projected))
    logits = torch.from_numpy(np.log(world.table)).requires_grad_()
    log_p = torch.log_softmax(logits, dim=-1).flatten(0, 1)
    each = token_divergence(log_p, targets.flatten(0, 1).clamp_min(1e-30).log(), "forward")
    (gradient,) = torch.autograd.grad((weights.flatten() * each).sum(), logits)
    return float((gradient.numpy() * direction).sum())
