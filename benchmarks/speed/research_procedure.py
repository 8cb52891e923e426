"""The phases of one round by the published research code's procedure, written anew from its description.

What was described: samples of one prompt at a time, scored; a second network with a full vocabulary head whose
log-sigmoid stands for log V(s·v), fitted by binary cross-entropy of the sampled token's value to the sequence's label;
a student, started anew, that is trained on the samples by the cross-entropy to softmax(base + second network), with a
forward pass of both in every step, neither under ``no_grad``, and padding inside the loss. Mended are the defects: the
sigmoid is applied once, every sample is used, and the base's graph need not be kept (``keeps_graph``). One pass over the
samples in both phases.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from constraintlang_runtime.data import TokenRow

Scores = Callable[[Sequence[str], Sequence[str]], Sequence[float]]


class SecondNetwork(nn.Module):
    """log V(s·v) <= 0 for every next token [B, T, V]: layers of the base's width with a vocabulary head of their own."""

    def __init__(self, base: Any, layers: int) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        config = copy.deepcopy(base.config)
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
        config.tie_word_embeddings = False
        self.network = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():  # begin with what the base knows of words
            self.network.get_input_embeddings().weight.copy_(base.get_input_embeddings().weight)

    def raw(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits of V(s·v)."""
        return self.network(input_ids=ids, attention_mask=mask, use_cache=False).logits

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """log V(s·v)."""
        return nn.functional.logsigmoid(self.raw(ids, mask).float())


def sample_by_prompt(
    model: Any, tokenizer: Any, prompts: Sequence[TokenRow], per_prompt: int, max_new_tokens: int
) -> list[TokenRow]:
    """``per_prompt`` completions of each prompt, one ``generate`` call for each prompt."""
    device = next(model.parameters()).device
    end, found = tokenizer.eos_token_id, []
    model.eval()
    for prompt in prompts:
        ids = torch.tensor([prompt.prompt], device=device)
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
                max_new_tokens=max_new_tokens, num_return_sequences=per_prompt, pad_token_id=tokenizer.pad_token_id or end,
            )  # fmt: skip
        for row in output[:, ids.shape[1] :].tolist():
            kept = row[: row.index(end) + 1] if end in row else row
            found.append(TokenRow(prompt.prompt, tuple(kept), prompt.tags, train_prompt=False))
    return found


def score_by_prompt(rows: Sequence[TokenRow], tokenizer: Any, scores: Scores, per_prompt: int) -> list[float]:
    """1 for each sequence that complies, the samples of one prompt in a call."""
    found: list[float] = []
    for start in range(0, len(rows), per_prompt):
        own = rows[start : start + per_prompt]
        texts = [
            tokenizer.batch_decode([getattr(row, part) for row in own], skip_special_tokens=True)
            for part in ("prompt", "completion")
        ]
        found += [float(score < 0.5) for score in scores(*texts)]
    return found


def fit_second_network(
    network: SecondNetwork, rows: Sequence[TokenRow], labels: Sequence[float], pad: int, batch_size: int,
    autocast: torch.autocast, learning_rate: float = 1e-4,
) -> float:  # fmt: skip
    """One pass of binary cross-entropy at every completion token, over whole [B, T, V] tensors; the mean loss."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    network.train()
    total = 0.0
    for part, ids, mask, inside in batches(rows, pad, batch_size, next(network.parameters()).device):
        target = torch.tensor([labels[i] for i in part], device=ids.device)[:, None].expand(
            -1, ids.shape[1] - 1
        )
        with autocast:
            log_value = network(ids, mask)[:, :-1]
        own = log_value.gather(-1, ids[:, 1:, None])[..., 0].clamp(max=-1e-6)
        each = -(target * own + (1 - target) * torch.log(-torch.expm1(own)))
        loss = each[inside].mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += float(loss.detach()) * len(part)
    return total / len(rows)


def tune_student(
    student: Any, base: Any, network: SecondNetwork, rows: Sequence[TokenRow], pad: int, batch_size: int,
    autocast: torch.autocast, learning_rate: float = 1e-5, keeps_graph: bool = False,
) -> int:  # fmt: skip
    """One pass of cross-entropy to softmax(base + log V) at all positions after the prompt; the number of steps.

    ``keeps_graph`` goes back through base and network, too, as was described; their gradients are thrown away.
    """
    optimizer = torch.optim.AdamW(student.parameters(), lr=learning_rate)
    student.train()
    base.eval()
    network.eval()
    steps = 0
    base.requires_grad_(keeps_graph)
    for _, ids, mask, inside in batches(rows, pad, batch_size, next(student.parameters()).device):
        with torch.set_grad_enabled(keeps_graph), autocast:
            guided = base(input_ids=ids, attention_mask=mask, use_cache=False).logits.float() + network(
                ids, mask
            )
            target = guided.softmax(-1)
        with autocast:
            logits = student(input_ids=ids, attention_mask=mask, use_cache=False).logits
        first = int(inside.any(0).nonzero()[0])  # from the first response token on, padding with the rest
        each = -(target * logits.float().log_softmax(-1)).sum(-1)
        loss = each[:, first:].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for thrown in (base, network):
            thrown.zero_grad()
        steps += 1
    return steps


def batches(
    rows: Sequence[TokenRow], pad: int, batch_size: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
    """Row numbers, ids [B, T], mask [B, T] and the sites of completion tokens [B, T - 1], in a fixed random order."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        width = max(len(rows[i].ids) for i in part)
        ids = torch.full((len(part), width), pad)
        mask = torch.zeros_like(ids)
        inside = torch.zeros((len(part), width - 1), dtype=torch.bool)
        for place, i in enumerate(part):
            own = rows[i]
            ids[place, : len(own.ids)] = torch.tensor(own.ids)
            mask[place, : len(own.ids)] = 1
            inside[place, len(own.prompt) - 1 : len(own.ids) - 1] = True
        yield part, ids.to(device), mask.to(device), inside.to(device)
