"""An exact world: a few prompts, four tokens, short sequences, every one of them listed with its probability.

The oracle of the runtime's tests. Nothing here uses a formula of the method: values, projections, conditional
laws and divergences are sums over the list of sequences, in numpy float64. It knows nothing of torch, models,
bins or clauses; a statistic is an array of numbers, one for each sequence.

Axes: ``P`` prompts, ``N`` sequences (the same list for every prompt), ``S`` open prefixes (those after which
a token is drawn, the empty one first), ``V`` tokens, ``D = S + N`` nodes: the prefixes, then the sequences.
A *law* is an array [P, N] of conditional probabilities of sequences given the prompt; each row sums to 1.
A sequence ends with the token ``END`` or at the length cap; END is a token like the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Tokens = tuple[int, ...]

END = 0


@dataclass(frozen=True, eq=False)
class World:
    """Prompts with integer ``copies`` [P] (so μ = copies / sum) and a table p(v|x, s) [P, S, V]."""

    copies: Ints
    prefixes: tuple[Tokens, ...]
    sequences: tuple[Tokens, ...]
    table: Floats

    # ------------------------------------------------------------ the tree
    @property
    def num_prompts(self) -> int:
        return self.table.shape[0]

    @property
    def vocab_size(self) -> int:
        return self.table.shape[2]

    @cached_property
    def prompt_law(self) -> Floats:
        """μ [P]."""
        return self.copies / self.copies.sum()

    @cached_property
    def node(self) -> dict[Tokens, int]:
        """The number of every prefix and every sequence."""
        return {tokens: number for number, tokens in enumerate((*self.prefixes, *self.sequences))}

    @cached_property
    def child(self) -> Ints:
        """The node s·v of every open prefix and token [S, V]."""
        return np.array([[self.node[(*s, v)] for v in range(self.vocab_size)] for s in self.prefixes])

    @cached_property
    def under(self) -> Floats:
        """1 where the sequence begins with the node [D, N]."""
        return np.array([[y[: len(s)] == s for y in self.sequences] for s in self.node], dtype=np.float64)

    def path(self, sequence: int) -> Ints:
        """The open prefixes that a sequence goes through, from the empty one to the one before its last token."""
        y = self.sequences[sequence]
        return np.array([self.node[y[:t]] for t in range(len(y))])

    # ------------------------------------------------------------ laws
    def law_of(self, table: Floats) -> Floats:
        """The law of sequences drawn token by token from a table [P, S, V]."""
        columns = [
            np.prod([table[:, self.node[y[:t]], y[t]] for t in range(len(y))], axis=0) for y in self.sequences
        ]
        return np.stack(columns, axis=1)

    @cached_property
    def law(self) -> Floats:
        """p_ref."""
        return self.law_of(self.table)

    def mass(self, law: Floats) -> Floats:
        """The probability of passing through each node [P, D]."""
        return law @ self.under.T

    def expectation_after(self, law: Floats, values: Floats) -> Floats:
        """E[values | x, node] [P, D] for ``values`` [P, N]; nan at nodes that the law never reaches."""
        with np.errstate(invalid="ignore"):
            return self.mass(law * values) / self.mass(law)

    def next_token(self, law: Floats) -> Floats:
        """The conditional next-token law [P, S, V] of a law of sequences; nan at prefixes of mass 0."""
        mass = self.mass(law)
        with np.errstate(invalid="ignore"):
            return mass[:, self.child] / mass[:, : len(self.prefixes), None]

    def occupancy(self, law: Floats) -> Floats:
        """The probability of passing through each open prefix [P, S]."""
        return self.mass(law)[:, : len(self.prefixes)]

    def bin_law(self, law: Floats, bins: Ints, num_bins: int) -> Floats:
        """P(bin = m | x, node) [P, D, M], for the bins [P, N] of the sequences."""
        each = [self.expectation_after(law, (bins == m).astype(np.float64)) for m in range(num_bins)]
        return np.stack(each, axis=-1)

    def tilt(self, law: Floats, potential: Floats) -> tuple[Floats, Floats]:
        """law · ψ / Z and Z [P], for a potential [P, N]."""
        weighted = law * potential
        normaliser = weighted.sum(axis=1)
        return weighted / normaliser[:, None], normaliser

    def value(self, potential: Floats, law: Floats | None = None) -> Floats:
        """V(x, node) = E[ψ | x, node] [P, D] under a law (p_ref unless given)."""
        return self.expectation_after(self.law if law is None else law, potential)

    # ------------------------------------------------------------ means and divergences
    def over_prompts(self, values: Floats) -> float:
        """Σ_x μ(x) values(x)."""
        return float(self.prompt_law @ values)

    def mean(self, law: Floats, values: Floats) -> float:
        """E_x E_law[values] for ``values`` [P, N]."""
        return self.over_prompts((law * values).sum(axis=1))

    def kl(self, first: Floats, second: Floats) -> Floats:
        """KL(first ‖ second) of sequences, for each prompt [P]."""
        return _kl(first, second)

    def token_kl(self, first: Floats, second: Floats) -> Floats:
        """KL of next-token tables at each open prefix [P, S]."""
        return _kl(first, second)

    # ------------------------------------------------------------ statistics
    def contains(self, token: int) -> Floats:
        """1 where the sequence contains the token [P, N]; its prefixes that do are dead for `always not`."""
        row = np.array([float(token in y) for y in self.sequences])
        return np.broadcast_to(row, (self.num_prompts, len(row))).copy()

    def length(self) -> Floats:
        """Tokens before END [P, N]."""
        row = np.array([float(sum(token != END for token in y)) for y in self.sequences])
        return np.broadcast_to(row, (self.num_prompts, len(row))).copy()

    def score(self, seed: int) -> Floats:
        """A real attribute in [0, 1] of (x, y) [P, N]: token weights, a shift for each prompt, and noise."""
        rng = np.random.default_rng(seed)
        weights, shift = rng.uniform(size=self.vocab_size), rng.uniform(size=self.num_prompts)
        row = np.array([weights[list(y)].mean() for y in self.sequences])
        noise = rng.uniform(size=(self.num_prompts, len(row)))
        return np.round(0.6 * row + 0.2 * shift[:, None] + 0.2 * noise, 4)

    # ------------------------------------------------------------ forms that the tests hand over
    def per_prompt_copy(self, values: Floats) -> Floats:
        """Rows [P, ...] repeated by the prompt's copies: a uniform list of prompts whose law is μ."""
        return np.repeat(values, self.copies, axis=0)

    def as_bins(self, law: Floats) -> Floats:
        """A law [P, N] over P·N bins, one for each pair of prompt and sequence [P, P·N]."""
        rows = np.zeros((self.num_prompts, self.num_prompts, law.shape[1]))
        rows[np.arange(self.num_prompts), np.arange(self.num_prompts)] = law
        return rows.reshape(self.num_prompts, -1)

    def draw(self, law: Floats, count: int, seed: int) -> tuple[Ints, Ints]:
        """``count`` independent pairs of prompt (from μ) and sequence (from the law): two arrays [count]."""
        rng = np.random.default_rng(seed)
        joint = (self.prompt_law[:, None] * law).ravel()
        picked = rng.choice(len(joint), size=count, p=joint / joint.sum())
        return picked // law.shape[1], picked % law.shape[1]


def _kl(first: Floats, second: Floats) -> Floats:
    """Σ first · log(first / second) over the last axis, 0 log 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(first > 0, first * (np.log(first) - np.log(second)), 0.0)
    return terms.sum(axis=-1)


def tree(vocab_size: int, length: int) -> tuple[tuple[Tokens, ...], tuple[Tokens, ...]]:
    """All open prefixes and all sequences of at most ``length`` tokens."""
    prefixes: list[Tokens] = []
    sequences: list[Tokens] = []
    layer: list[Tokens] = [()]
    for depth in range(length):
        prefixes.extend(layer)
        grown = [(*s, v) for s in layer for v in range(vocab_size)]
        layer = [y for y in grown if y[-1] != END]
        sequences.extend(grown if depth == length - 1 else [y for y in grown if y[-1] == END])
    return tuple(prefixes), tuple(sequences)


def random_table(rng: np.random.Generator, num_prompts: int, num_prefixes: int, vocab_size: int) -> Floats:
    """Next-token laws with logits of a random spread: from nearly uniform to rather sure."""
    logits = rng.normal(size=(num_prompts, num_prefixes, vocab_size)) * rng.uniform(0.3, 1.5)
    unnormalised = np.exp(logits)
    return unnormalised / unnormalised.sum(axis=-1, keepdims=True)


def random_world(seed: int, *, vocab_size: int = 4, length: int = 4, num_prompts: int = 3) -> World:
    """A world drawn from a seed: 40 + 81 sequences and 40 open prefixes by default."""
    rng = np.random.default_rng(seed)
    prefixes, sequences = tree(vocab_size, length)
    table = random_table(rng, num_prompts, len(prefixes), vocab_size)
    return World(rng.integers(1, 4, size=num_prompts), prefixes, sequences, table)


def small_world(seed: int, num_prompts: int = 2) -> World:
    """15 sequences and 7 open prefixes per prompt, for tests that run a model over all of them."""
    return random_world(seed, vocab_size=3, length=3, num_prompts=num_prompts)


def another_law(world: World, seed: int) -> tuple[Floats, Floats]:
    """A student that has nothing to do with p_ref: its table [P, S, V] and its law [P, N]."""
    table = random_table(np.random.default_rng(seed), *world.table.shape)
    return table, world.law_of(table)
