"""The form `adapter`: a low-rank change of the anchor whose log-ratio to it is the potential (DiNADO's "merge")."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from constraintlang_runtime.auxiliary.low_rank import LowRankChanges
from constraintlang_runtime.auxiliary.protocol import AuxiliaryModel, Step
from constraintlang_runtime.data import Batch, next_tokens
from constraintlang_runtime.model_checks import first_position

if TYPE_CHECKING:
    from constraintlang_runtime.anchor import Anchor

CAP = 1e-4  # R stays below 1 by this much, so that both bins keep a finite logarithm
CHUNK = 1 << 24  # logits held at once


class AdapterAuxiliary(AuxiliaryModel):
    """R(s·v) = R(s) p_A(v|s) / p_ref(v|s), the chance of the good bin of one binary statistic.

    p_A is the anchor with low-rank changes of its linear maps. R(x) at the prompt is a read-out of the anchor's
    features there, R(s_t) = R(x) Π_{j<t} p_A(y_j|s_j) / p_ref(y_j|s_j), capped at 1. Since p_A sums to 1, R(s) is
    the p_ref-mean of R(s·v) by construction, and q̂ of a hard clause is p_A itself. It starts with p_A = p_ref = q̂.

    ``inputs`` [S, 2H + 3] are the last hidden states of p_A and of p_ref, log R(s), the realised next token (-1 where
    there is none yet), and its log-ratio.
    Source: Lu et al. 2023 (DiNADO, arXiv 2306.11825).
    """

    reads_rows: ClassVar[bool] = True
    max_grad_norm: ClassVar[float | None] = 1.0
    num_bins = 2

    def __init__(self, hidden_size: int, changes: LowRankChanges, *, good_bin: int) -> None:
        super().__init__()
        self.hidden_size, self.good_bin, self.changes = hidden_size, good_bin, changes
        self.norm = nn.GroupNorm(2, 2 * hidden_size)
        self.readout = nn.Linear(2 * hidden_size, 1)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)
        self._anchor: Anchor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The anchor is not part of what is copied to other processes; they attach their own."""
        return {**self.__dict__, "_anchor": None}

    def attach(self, anchor: Anchor) -> None:
        """The anchor whose weights p_A changes."""
        self._anchor = anchor

    @property
    def anchor(self) -> Anchor:
        """The attached anchor."""
        if self._anchor is None:
            raise RuntimeError("the adapter is not attached to an anchor; call `attach` first")
        return self._anchor

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """The anchor's weights in place until the backward passes are over, and no gradient of theirs."""
        free = [p for p in self.anchor.model.parameters() if p.requires_grad]
        with self.anchor.in_place():
            try:
                for parameter in free:
                    parameter.requires_grad_(False)
                yield
            finally:
                for parameter in free:
                    parameter.requires_grad_(True)

    # ------------------------------------------------------------ reading
    def inputs(
        self, batch: Batch, sites: Bool[Tensor, "B T"], features: Float[Tensor, "S F"]
    ) -> Float[Tensor, "S I"]:
        """Hidden states of p_A beside the anchor's, and log R along every row. Gradient: to changes and read-out."""
        row = torch.nonzero(sites)[:, 0]
        tokens = next_tokens(batch.input_ids, sites)
        with self._gradients():
            states = self._states(batch.input_ids, batch.attention_mask)[0][sites].float()
            base = features[:, : self.hidden_size].float()
            ratio = self._ratio_at(states, base, tokens)
            first = torch.ones_like(row, dtype=torch.bool)
            first[1:] = row[1:] != row[:-1]
            number = first.long().cumsum(0) - 1
            before = ratio.double().cumsum(0) - ratio.double()
            at_prompt = self._at_prompt(features[first])
            log_r = at_prompt[number] + (before - before[first][number]).float()
            return torch.cat([states, base, log_r[:, None], tokens[:, None].float(), ratio[:, None]], dim=1)

    def step(self, now: Step) -> tuple[Float[Tensor, "B I"], Any]:
        """The same at the last position; p_A keeps a cache of keys and values of its own."""
        new, cache = now.input_ids, None
        if now.memory is None:
            log_r = self._at_prompt(now.features)
        else:
            cache, last = now.memory
            new = new[:, -1:]
            log_r = last[:, -3] + self._ratio_at(*self._halves(last), new[:, 0])
        states, cache = self._states(new, now.attention_mask, cache=cache, use_cache=True)
        base = now.features[:, : self.hidden_size].float()
        unknown = torch.full_like(log_r, -1.0)
        columns = torch.stack([log_r, unknown, torch.zeros_like(log_r)], dim=1)
        inputs = torch.cat([states[:, -1].float(), base, columns], dim=1)
        return inputs, (cache, inputs)

    def select(self, memory: Any, rows: Tensor) -> Any:
        """The cache and the last inputs of some rows."""
        cache, last = memory
        cache.reorder_cache(rows)
        return cache, last[rows]

    def _states(
        self, input_ids: Tensor, attention_mask: Tensor, *, cache: Any = None, use_cache: bool = False
    ) -> tuple[Float[Tensor, "B T H"], Any]:
        """Last hidden states of p_A; the output embeddings see a single position."""
        anchor, found = self.anchor, list[Tensor]()
        options: dict[str, Any] = {"past_key_values": cache} if use_cache else {}
        if use_cache and "position_ids" in inspect.signature(anchor.model.forward).parameters:
            positions = (attention_mask.cumsum(1) - 1).clamp_min(0) + first_position(anchor.model)
            options["position_ids"] = positions[:, -input_ids.shape[1] :]
        was_training = anchor.model.training
        anchor.model.eval()
        handle = anchor.head.register_forward_pre_hook(partial(_capture, found))
        try:
            with anchor.in_place(), self.changes.applied(anchor.model):
                out = anchor.model(
                    input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache, **options
                )
        finally:
            handle.remove()
            anchor.model.train(was_training)
        return found[-1], out.past_key_values if use_cache else None

    def _at_prompt(self, features: Float[Tensor, "B F"]) -> Float[Tensor, " B"]:
        """log R(x)."""
        return functional.logsigmoid(self.readout(self.norm(features.float())).squeeze(-1))

    def _halves(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return inputs[:, : self.hidden_size], inputs[:, self.hidden_size : 2 * self.hidden_size]

    def _gradients(self) -> Any:
        trained = any(p.requires_grad for p in self.parameters())
        return torch.set_grad_enabled(torch.is_grad_enabled() and trained)

    # ------------------------------------------------------------ laws
    def _ratio(self, states: Tensor, base: Tensor) -> Float[Tensor, "S V"]:
        """log p_A(v|s) - log p_ref(v|s) for every token."""
        with self._gradients():
            changed = torch.log_softmax(self.anchor.output_logits(states).float(), dim=-1)
        with torch.no_grad():
            kept = torch.log_softmax(self.anchor.output_logits(base).float(), dim=-1)
        return changed - kept

    def _ratio_at(self, states: Tensor, base: Tensor, tokens: Tensor) -> Float[Tensor, " S"]:
        """The log-ratio at one token a site, a chunk of logits at a time, forward and backward."""
        size = max(1, CHUNK // self.anchor.vocab_size)
        parts = list(zip(states.split(size), base.split(size), tokens.split(size), strict=True))
        if not torch.is_grad_enabled() or len(parts) == 1:
            return torch.cat([self._ratio_of(*part) for part in parts])
        return torch.cat(
            [
                checkpoint(self._ratio_of, *part, use_reentrant=False, preserve_rng_state=False)
                for part in parts
            ]
        )

    def _ratio_of(self, states: Tensor, base: Tensor, tokens: Tensor) -> Float[Tensor, " S"]:
        return self._ratio(states, base).gather(1, tokens[:, None]).squeeze(1)

    def _law(self, log_r: Float[Tensor, "*S"]) -> Float[Tensor, "*S M"]:
        """Both bins' log-probabilities from log R; the bad bin's gradient also reaches R where the cap holds."""
        good = log_r.clamp(max=-CAP)
        passed = good + torch.where(log_r > -CAP, log_r - log_r.detach(), torch.zeros_like(log_r))
        bad = torch.log(-torch.expm1(passed))
        return torch.stack([good, bad] if self.good_bin == 0 else [bad, good], dim=-1)

    def all_tokens(self, inputs: Float[Tensor, "S I"]) -> Float[Tensor, "S V M"]:
        """Bin log-probabilities after every next token."""
        return self._law(inputs[:, -3, None] + self._ratio(*self._halves(inputs)))

    def one_token(self, inputs: Float[Tensor, "S I"], tokens: Int[Tensor, " S"]) -> Float[Tensor, "S M"]:
        """Bin log-probabilities after the given next token of each site."""
        if bool((inputs[:, -2].long() == tokens).all()):  # what ``inputs`` already knows
            return self._law(inputs[:, -3] + inputs[:, -1])
        return self._law(inputs[:, -3] + self._ratio_at(*self._halves(inputs), tokens))

    def prefix_law(
        self, inputs: Float[Tensor, "S I"], anchor_logits: Float[Tensor, "S V"]
    ) -> Float[Tensor, "S M"]:
        """The law at the prefix: R(s) itself, the p_ref-mean of R(s·v) because p_A sums to 1."""
        return self._law(inputs[:, -3])

    @torch.no_grad()
    def start_at(self, log_law: Float[Tensor, " M"]) -> None:
        """Put the constant law into the read-out's bias."""
        if not bool(self.readout.bias.abs().max() > 0):
            good, bad = log_law[self.good_bin], log_law[1 - self.good_bin]
            self.readout.bias.add_((good - bad).to(self.readout.bias))

    def record(self) -> dict[str, Any]:
        """What ``make.from_record`` needs: the changed maps by name and shape."""
        return {
            "form": "adapter",
            "hidden_size": self.hidden_size,
            "good_bin": self.good_bin,
            "rank": self.changes.rank,
            "dropout": self.changes.dropout,
            "names": list(self.changes.names),
            "shapes": [list(shape) for shape in self.changes.shapes],
        }


def _capture(found: list[Tensor], _module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    found.append(args[0])
    return (args[0][:1, :1], *args[1:])
