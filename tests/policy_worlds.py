"""Random policies of the language on enumerable worlds: text, clauses, groups, bins, and every sequence's statistics.

A policy is drawn as trees by the generator of ``policy_strategies``, printed, and compiled from its text. The tokens
of the world have texts, so that word lists, parts and order have a meaning; scores of a text are tabulated. Groups,
strata, bins and what ``settle`` measures are the runtime's own.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from enumerable_world import Floats, Ints, World, random_world
from hypothesis import assume
from hypothesis import strategies as st
from policy_strategies import (
    DECLARATIONS,
    dist_statistics,
    score_values,
    seq_formulas,
    trace_formulas,
)
from world_policy import Case

from constraintlang import PolicyError, SourceFile, format_policy
from constraintlang import nodes as n
from constraintlang.base_model import on_base
from constraintlang.semantics import Response
from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.errors import StratumError, TargetError
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.pipeline import compile_source
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.grouping import make_groups
from constraintlang_runtime.groups import Group, attach_target
from constraintlang_runtime.projection import GroupLaw, Projection, project_groups
from constraintlang_runtime.rounds import Measurement, score_rows
from constraintlang_runtime.sampling import completion_texts, prompt_texts
from constraintlang_runtime.scorers.binding import bind_scorers
from constraintlang_runtime.scorers.parts import score_responses
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.settling import settle

DRAWS = 600  # samples that the bins are made from
PROMPT = 100  # prompts have one token each, from this number on
TOKEN_TEXTS = ("", "fine words. ", "so sorry! ", "a slur ")  # token 0 ends a response


class TokenTexts:
    """As much of a tokenizer as scoring asks for."""

    all_special_ids = (0,)
    eos_token_id = 0
    chat_template = None

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = True) -> list[str]:
        return [
            "".join(f"prompt {i - PROMPT}" if i >= PROMPT else TOKEN_TEXTS[i] for i in row) for row in rows
        ]


# ------------------------------------------------------------ policies
def _equals(key: str, value: str) -> n.DomainPredicate:
    return n.DomainEquals(key=key, value=n.Scalar(value=value, kind="name"))


plain_domains = st.sampled_from(
    [_equals("domain", "a"), _equals("domain", "b"), _equals("lang", "en"), _equals("lang", "de")]
)
domains = plain_domains | st.builds(lambda o: n.DomainNot(operand=o), plain_domains)
scopes = st.one_of(
    st.just(()),
    domains.map(lambda predicate: (n.ForClause(predicate=predicate),)),
    st.sampled_from(["lang", "domain"]).map(lambda key: (n.PerClause(keys=(key,)),)),
)
tolerances = st.sampled_from(["0.05", "0.2", "0.4"]).map(
    lambda text: n.UnderClause(settings=(("tolerance", n.Scalar(value=Decimal(text), kind="number")),))
)
pointwise = st.one_of(
    seq_formulas,
    st.builds(
        lambda level, o: n.Over(level=level, operand=o),
        st.sampled_from(["sentences", "tokens"]),
        trace_formulas,
    ),
)
weights = st.sampled_from(["0.5", "2"]).map(lambda t: n.WeightClause(value=n.Number(value=Decimal(t))))


def _statement(formula: n.Formula, strength: str, always: bool, clauses: tuple[n.Clause, ...]) -> n.Statement:
    return n.Statement(formula=formula, label=None, strength=strength, always=always, clauses=clauses)


pointwise_statements = st.one_of(
    st.builds(lambda f, s: _statement(f, "require", True, s), pointwise, scopes),
    st.builds(lambda f, s, t: _statement(f, "require", False, (*s, t)), pointwise, scopes, tolerances),
    st.builds(
        lambda f, s, t, w: _statement(f, "prefer", False, (*s, t, w)), pointwise, scopes, tolerances, weights
    ),
)


@st.composite
def distribution_statements(draw: st.DrawFn) -> n.Statement:
    """A statistic against a number, or against that of the base model; some are conditional, some preferred."""
    left = draw(dist_statistics)
    if draw(st.booleans()):
        left = n.Apply(function=left.function, arguments=left.arguments, given=draw(st.none() | domains))
    if draw(st.integers(0, 3)) == 0:
        factor = n.Number(value=draw(st.sampled_from(["0.6", "0.9", "1"]).map(Decimal)))
        right: n.Expr = n.Arithmetic(op="*", left=factor, right=on_base(left))
    else:
        right = n.Number(value=draw(score_values | st.sampled_from(["1.5", "3"]).map(Decimal)))
    formula = n.Compare(operands=(left, right), operators=(draw(st.sampled_from(["<", "<=", ">", ">="])),))
    preferred = draw(st.integers(0, 3)) == 0
    clauses = draw(scopes) + ((draw(weights),) if preferred else ())
    return _statement(formula, "prefer" if preferred else "require", False, clauses)


statements = pointwise_statements | distribution_statements()


@functools.lru_cache(maxsize=4096)
def compiled(text: str) -> CompiledPolicy | None:
    """The policy of a text behind the declarations; None when the compiler refuses it or it asks for nothing."""
    try:
        policy = compile_source(SourceFile(DECLARATIONS + text))
    except PolicyError:
        return None
    return policy if sample_clauses(policy.ir) else None


@st.composite
def policies(draw: st.DrawFn) -> str:
    """The text of one to three statements that compile together and that training acts on."""
    texts = [
        text
        for statement in draw(st.lists(statements, min_size=1, max_size=4))
        for text in [format_policy(n.Policy(items=(statement,)))]
        if compiled(text) is not None
    ]
    assume(texts)
    assume(compiled("".join(texts[:3])) is not None)
    return "".join(texts[:3])


# ------------------------------------------------------------ the policy on a world
@dataclass
class GroupCase:
    """A group of prompts: which, the runtime's group, the statistics [P, N, K], and the case of the binned ones."""

    prompts: list[int]
    group: Group
    f: Floats
    case: Case

    @property
    def root_law(self) -> Floats:
        """The law of the bins at each prompt, prompts repeated by their copies."""
        world = self.case.world
        return world.per_prompt_copy(
            world.bin_law(world.law, self.case.bins, self.case.target.num_bins)[:, 0]
        )


@dataclass
class PolicyWorld:
    """A policy on a world with tagged prompts; ``soft`` are the numbers of its soft clauses, with ``bounds`` [S]."""

    text: str
    world: World
    tags: list[dict[str, str]]
    groups: list[GroupCase]
    seed: int
    responses: Callable[[int], list[Response]]
    soft: tuple[int, ...] = field(init=False)
    bounds: Floats = field(init=False)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows a failing example."""
        printer.text(f"policy_world({self.text!r}, {self.seed})")

    def __post_init__(self) -> None:
        found = {
            one.group.indexes[soft.clause]: float(one.group.clauses[soft.clause].bound)
            for one in self.groups
            for soft in one.case.target.soft
        }
        self.soft = tuple(sorted(found))
        self.bounds = np.array([found[k] for k in self.soft])

    @property
    def untrained(self) -> bool:
        """Whether the policy asks for something that is verified only."""
        policy = compiled(self.text)
        assert policy is not None
        return len(sample_clauses(policy.ir)) < len(policy.ir.clauses)

    def columns(self, one: GroupCase) -> list[int]:
        """The place among all soft clauses of each soft clause of a group."""
        return [self.soft.index(one.group.indexes[soft.clause]) for soft in one.case.target.soft]

    def group_law(self, one: GroupCase) -> GroupLaw:
        """What the projection is given of a group."""
        columns, bins = self.columns(one), one.case.target.num_bins
        values, applies = np.zeros((bins, len(self.soft))), np.zeros(len(self.soft), dtype=bool)
        values[:, columns], applies[columns] = one.case.bin_values, True
        share = float(self.world.prompt_law[one.prompts].sum())
        return GroupLaw(one.root_law, values, one.case.target.hard_bins, applies, share)

    def solve(self, bounds: Floats | None = None) -> Projection:
        """The runtime's joint projection."""
        return project_groups(
            [self.group_law(one) for one in self.groups], self.bounds if bounds is None else bounds
        )

    def tilted(self, duals: Floats) -> list[tuple[Floats, Floats]]:
        """q_λ [P, N] and Z [P] of each group, from its sequences."""
        return [
            one.case.world.tilt(one.case.world.law, one.case.potential(duals[self.columns(one)]))
            for one in self.groups
        ]

    def group_means(self, one: GroupCase, law: Floats) -> Floats:
        """E[f_k] over the prompts of a group [S]; NaN for the clauses that it does not fall under."""
        found = np.full(len(self.soft), np.nan)
        for place, column in enumerate(self.columns(one)):
            found[column] = one.case.world.mean(law, one.case.soft[:, :, place])
        return found

    def over_groups(self, values: Sequence[Floats]) -> float:
        """E_x of one number for each prompt, group by group; a prompt without clauses is left out."""
        masses = [self.world.prompt_law[one.prompts] for one in self.groups]
        return float(sum(m @ v for m, v in zip(masses, values, strict=True)) / sum(m.sum() for m in masses))

    def means(self, laws: Sequence[Floats]) -> Floats:
        """E[f_k | D_k] [S] under one law for each group."""
        total, mass = np.zeros(len(self.soft)), np.zeros(len(self.soft))
        for one, law in zip(self.groups, laws, strict=True):
            weight = self.world.prompt_law[one.prompts]
            for place, column in enumerate(self.columns(one)):
                total[column] += weight @ (law * one.case.soft[:, :, place]).sum(axis=1)
                mass[column] += weight.sum()
        return total / mass


def _tabulated(seed: int, name: str):
    """A score in tenths of a prompt and a text: of its words, and some noise."""

    def score(prompts: Sequence[str], completions: Sequence[str], **columns: object) -> list[float]:
        return [
            _digit(seed, name, *((word,) if word else (prompt, text))) / 10
            for prompt, text in zip(prompts, completions, strict=True)
            for word in [text.split()[-1] if text and _digit(seed, prompt, text) < 6 else ""]
        ]

    return score


def _digit(*parts: object) -> int:
    return hashlib.sha256(repr(parts).encode()).digest()[0] % 11


def policy_world(
    text: str, seed: int, *, length: int = 3, num_prompts: int = 4, tags: list[dict[str, str]] | None = None
) -> PolicyWorld | None:
    """The policy on a random world; None where it has no clause there, needs too many bins, or asks the impossible."""
    policy = compiled(text)
    assert policy is not None
    world = random_world(seed, length=length, num_prompts=num_prompts)
    rng = np.random.default_rng(seed + 1)
    if tags is None:
        pairs = zip(rng.choice(["a", "b"], num_prompts), rng.choice(["en", "de"], num_prompts), strict=True)
        tags = [{"domain": str(domain), "lang": str(lang)} for domain, lang in pairs]
    try:
        ir = expand_strata(policy.ir, tags)
    except StratumError:
        return None
    ready = {
        key: _tabulated(seed, key)
        for attribute in ir.attributes
        if attribute.name in ("toxicity", "empathy")
        for key in [attribute.name]
    }
    pool = ScoringPool(ir.attributes, bind_scorers(ir, {}, ready, folder=None), timeout=None)  # type: ignore[arg-type]
    tokenizer = TokenTexts()

    def rows_of(x: int) -> list[TokenRow]:
        return [TokenRow((PROMPT + x,), y, tags[x], False) for y in world.sequences]

    prompts = [
        TokenRow((PROMPT + x,), (), tags[x], False)
        for x in range(num_prompts)
        for _ in range(world.copies[x])
    ]

    def score(clauses: Sequence[Clause], rows: Sequence[TokenRow]) -> Floats:
        return score_rows(pool, clauses, rows, tokenizer)

    groups, _ = make_groups(ir, [], prompts, ConstraintSettings(), tokenizer, score)

    def responses(x: int) -> list[Response]:
        """Every sequence after a prompt as the reference semantics reads it."""
        rows = rows_of(x)
        scores, found = score_responses(
            pool,
            sample_clauses(ir),
            rows,
            prompt_texts(rows, tokenizer),
            completion_texts(rows, tokenizer),
            tokenizer,
        )

        def decimals(values: Mapping[str, Floats], i: int) -> dict[str, Decimal | None]:
            return {key: Decimal(repr(float(column[i]))) for key, column in values.items()}

        ends = {level: np.cumsum(some.lengths) for level, some in found.items()}
        return [
            Response(
                decimals(scores, i),
                {
                    level: [
                        decimals(some.scores, j)
                        for j in range(ends[level][i] - some.lengths[i], ends[level][i])
                    ]
                    for level, some in found.items()
                },
            )
            for i in range(len(rows))
        ]

    numbers = [sorted({row.prompt[0] - PROMPT for row in group.prompts}) for group in groups]
    parts = [
        World(world.copies[some], world.prefixes, world.sequences, world.table[some]) for some in numbers
    ]
    rows = [[row for x in some for row in rows_of(x)] for some in numbers]
    drawn = []
    for part in parts:
        x, y = part.draw(part.law, DRAWS, seed)
        drawn.append(x * len(world.sequences) + y)
    sampled = [[some[i] for i in picked] for some, picked in zip(rows, drawn, strict=True)]
    try:
        sources = [group.clauses for group in groups]
        settle(
            groups, sources, [Measurement(some, score(c, some)) for c, some in zip(sources, sampled, strict=True)],
            [functools.partial(score, rows=some) for some in sampled], first=True, starts=True,
        )  # fmt: skip
        cases = [
            _group_case(part, group, some, score(group.clauses, listed), picked)
            for part, group, some, listed, picked in zip(parts, groups, numbers, rows, drawn, strict=True)
        ]
    except (TargetError, TrainingError):
        return None
    return PolicyWorld(text, world, tags, cases, seed, responses) if cases else None


def _group_case(part: World, group: Group, numbers: list[int], every: Floats, drawn: Ints) -> GroupCase:
    """The bins of a group from its samples ``drawn``; ``every`` [P·N, K] are the statistics of all sequences."""
    attach_target(group, every[drawn])
    assert group.target is not None
    bins = group.target.bin_index(every)
    shape = (len(numbers), len(part.sequences))
    binned = every.copy()
    for place, soft in enumerate(group.target.soft):
        if not soft.is_indicator:
            binned[:, soft.clause] = group.bin_values[bins, place]
    case = Case(
        part, group.clauses, binned.reshape(*shape, -1), group.target, bins.reshape(shape), group.bin_values
    )
    return GroupCase(numbers, group, every.reshape(*shape, -1), case)


@st.composite
def policy_worlds(draw: st.DrawFn, *, length: int = 3, num_prompts: int = 4) -> PolicyWorld:
    """A random policy on a random world in which every prompt has some mass outside its hard clauses."""
    found = policy_world(
        draw(policies()), draw(st.integers(0, 2**16)), length=length, num_prompts=num_prompts
    )
    assume(found is not None)
    assert found is not None
    assume(all((one.case.allowed.sum(axis=1) > 0).all() for one in found.groups))
    return found
