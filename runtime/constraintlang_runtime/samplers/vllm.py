"""Completions from a vLLM server that is handed the LoRA adapter of each round. NOT RUN ON HARDWARE.

Tested against a fake server that keeps the protocol (``tests/fake_vllm.py``); no vLLM was run. The server is
``vllm serve MODEL --enable-lora`` with ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``, serves the start model, and sees the
folder that adapters are saved in. Protocol: ``/v1/load_lora_adapter``, ``/v1/unload_lora_adapter``, ``/v1/models``,
``/v1/completions`` with token ids as prompt and ``return_token_ids`` (vLLM 0.10.2 and later).
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from constraintlang_runtime.chat import end_tokens
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.ranks import from_main, gathered, interleaved, rank_and_size
from constraintlang_runtime.samplers.http import Server
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.weight_hash import weight_hash

MOST_AT_ONCE = 64
CHECKED = 4  # completions whose log-probabilities are compared with the model's after each refresh
TOLERANCE = 0.2  # nats a token on average: other kernels and bfloat16 make a few hundredths


class VllmSampler:
    """A ``Sampler`` that asks a vLLM server; the model must be a ``PeftModel`` with LoRA, whose adapter is what moves.

    After every refresh the server's log-probabilities of some samples are compared with the model's own, so that
    samples of another model never pass for this one's.
    """

    def __init__(self, server: Server, folder: str | None = None) -> None:
        self.server = server
        self.folder = Path(folder or tempfile.mkdtemp(prefix="constraintc-"))
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        # a server keeps adapters by name, also those of runs that were killed
        self._run = uuid.uuid4().hex[:8]
        self._loaded: tuple[str, str] | None = None
        self._in_use = threading.Lock()

    def __call__(
        self,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[TokenRow],
        law: SamplingLaw,
        *,
        seed: int,
        batch_size: int = 256,
        logits_processor: Sequence[Any] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> list[TokenRow]:
        """One completion per prompt; ``seed`` and a prompt's place give the seed of its request.

        One call at a time: a lane and the training lane may ask for different weights.
        Raises: ConfigError for a model without an adapter, TrainingError for a server that fails or sends what was not
        asked for.
        """
        if logits_processor:
            raise ConfigError(
                "a sampling server cannot be guided by a logits processor", help="use --sampler transformers"
            )
        with self._in_use:
            return self._sampled(model, tokenizer, prompts, law, seed, batch_size, progress)

    def _sampled(
        self, model: Any, tokenizer: Any, prompts: Sequence[TokenRow], law: SamplingLaw, seed: int, batch_size: int,
        progress: Callable[[int, int], None] | None,
    ) -> list[TokenRow]:  # fmt: skip
        name, is_new = self._refreshed(model)
        rank, num_ranks = rank_and_size()
        mine = list(range(rank, len(prompts), num_ranks))
        ends = end_tokens(tokenizer, model)
        vocab = int(model.get_input_embeddings().weight.shape[0])
        outcome: tuple[list[TokenRow], Exception | None]
        try:
            done: list[TokenRow] = []
            checked = {*mine[:CHECKED]} if is_new else set()
            known: list[list[float]] = []

            def ask(index: int) -> tuple[TokenRow, list[float]]:
                row, at = prompts[index], derived_seed(seed, "prompt", index)
                ids, own = self._complete(name, row.prompt, law, at, ends, vocab, index in checked)
                return replace(row, completion=tuple(ids)), own

            with ThreadPoolExecutor(max(1, min(batch_size, MOST_AT_ONCE))) as pool:
                for row, own in pool.map(ask, mine):
                    done.append(row)
                    known.append(own)
                    if progress is not None:
                        progress(min(len(done) * num_ranks, len(prompts)), len(prompts))
            self._require_same_model(model, done[: len(checked)], known)
            outcome = (done, None)
        except Exception as error:  # the other processes wait for it
            outcome = ([], error)
        parts = gathered(outcome)
        for _, failure in parts:
            if failure is not None:
                raise failure
        return interleaved([rows for rows, _ in parts])

    # ------------------------------------------------------------ weights
    def _refreshed(self, model: Any) -> tuple[str, bool]:
        """The name under which the server has the adapter as it is now, and whether it was handed over for this."""
        outcome: tuple[tuple[str, bool] | None, Exception | None] = (None, None)
        if rank_and_size()[0] == 0:
            try:
                outcome = (self._hand_over(model), None)
            except Exception as error:  # the other processes wait for it
                outcome = (None, error)
        found, failure = from_main(outcome)
        if failure is not None:
            raise failure
        assert found is not None
        return found

    def _hand_over(self, model: Any) -> tuple[str, bool]:
        if not hasattr(model, "peft_config"):
            raise ConfigError(
                "sampler: a vLLM server is handed adapters, and this run trains all weights",
                help="add --lora_r 16, or use --sampler transformers",
            )
        state = weight_hash((key, weight) for key, weight in model.named_parameters() if weight.requires_grad)
        if self._loaded is not None and self._loaded[0] == state:
            return self._loaded[1], False
        name = f"constraintc-{self._run}-{state[:12]}"
        path = (self.folder / name).resolve()
        try:
            model.save_pretrained(str(path), safe_serialization=True)
        except OSError as error:
            raise ConfigError(
                f"sampler_folder: cannot write to `{self.folder}`: {error.strerror}",
                help="name another folder",
            ) from error
        self._tell("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, present=True)
        if self._loaded is not None:
            old = self._loaded[1]
            self._tell("/v1/unload_lora_adapter", {"lora_name": old}, present=False)
            shutil.rmtree(self.folder / old, ignore_errors=True)
        self._loaded = (state, name)
        return name, True

    def _tell(self, path: str, body: dict[str, str], *, present: bool) -> None:
        """Load or unload an adapter; a second attempt is refused when the first was heard and its reply was lost."""
        try:
            self.server.request(path, body)
        except TrainingError:
            listed = self.server.request("/v1/models")
            served = {entry.get("id") for entry in listed["data"]} if isinstance(listed, dict) else set()
            if (body["lora_name"] in served) != present:
                raise

    # ------------------------------------------------------------ completions
    def _complete(
        self,
        name: str,
        prompt: Sequence[int],
        law: SamplingLaw,
        seed: int,
        ends: Sequence[int],
        vocab: int,
        with_log_probs: bool,
    ) -> tuple[list[int], list[float]]:
        """The sampled ids of one prompt, and their log-probabilities when asked for."""
        body = {
            "model": name, "prompt": list(prompt), "n": 1, "stream": False, "seed": seed,
            "max_tokens": law.max_new_tokens,
            "temperature": float(law.temperature), "top_p": float(law.top_p), "top_k": law.top_k,
            # the law is what was asked for, whatever the server's defaults
            "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "stop_token_ids": list(ends), "ignore_eos": False, "return_token_ids": True,
        }  # fmt: skip
        if with_log_probs:
            body["logprobs"] = 0
        reply = self.server.request("/v1/completions", body)
        try:
            (choice,) = reply["choices"]
            reason = choice["finish_reason"]
        except (TypeError, KeyError, ValueError):
            raise self._unusable(f"its reply has not one choice: {str(reply)[:120]!r}") from None
        ids = choice.get("token_ids")
        if not isinstance(ids, list):
            raise self._unusable(
                "it sends no token ids, and text is never tokenized again", help="use vLLM 0.10.2 or later"
            )
        if not all(isinstance(token, int) and 0 <= token < vocab for token in ids):
            raise self._unusable(f"it sends ids that the model does not have: {ids[:20]}")
        asked = choice.get("prompt_token_ids")
        if asked is not None and list(asked) != list(prompt):
            raise self._unusable("it completed another prompt than the one that was sent")
        inner = [token for token in (ids[:-1] if reason == "stop" else ids) if token in ends]
        if (
            reason not in ("stop", "length")
            or inner
            or (reason == "stop" and ids[-1:] and ids[-1] not in ends)
        ):
            raise self._unusable(
                f"a completion ended by {reason!r} as {ids[-8:]}, the end tokens are {list(ends)}",
                help="serve it with the tokenizer and generation settings of the start model",
            )
        if (reason == "stop" and not ids) or (reason == "length" and len(ids) != law.max_new_tokens):
            raise self._unusable(
                f"a completion of {len(ids)} tokens ended by {reason!r}, {law.max_new_tokens} were asked for",
                help="raise its --max-model-len",
            )
        if not with_log_probs:
            return ids, []
        own = (choice.get("logprobs") or {}).get("token_logprobs")
        if not isinstance(own, list) or len(own) != len(ids):
            raise self._unusable("it sends no log-probabilities of its tokens")
        return ids, [float(value) for value in own]

    def _require_same_model(
        self, model: Any, rows: Sequence[TokenRow], known: Sequence[Sequence[float]]
    ) -> None:
        """Raise TrainingError unless the server's log-probabilities are the model's."""
        if not rows:
            return
        was_training = model.training
        model.eval()
        device = next(model.parameters()).device
        total, count = 0.0, 0
        with torch.inference_mode():
            for row, theirs in zip(rows, known, strict=False):
                ids = torch.tensor(row.ids, device=device)
                logits = model(input_ids=ids[None], use_cache=False).logits[0, len(row.prompt) - 1 : -1]
                chosen = ids[len(row.prompt) :, None]
                ours = torch.log_softmax(logits.float(), -1).gather(1, chosen)[:, 0].cpu()
                total += float((ours - torch.tensor(theirs)).abs().sum())
                count += len(theirs)
        model.train(was_training)
        if total / max(1, count) > TOLERANCE:
            raise self._unusable(
                f"its log-probabilities are {total / count:.2f} nats a token away from this model's, so it samples "
                "another",
                help="serve the start model of this run; leave --logprobs-mode at raw_logprobs, its default",
            )

    def _unusable(self, what: str, help: str | None = None) -> TrainingError:
        return TrainingError(f"the sampling server {self.server.url} cannot be used: {what}", help=help)
