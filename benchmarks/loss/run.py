"""Memory and time of one training step's loss on the plain and on the chunked path, on this machine's CPU.

The model is a table of hidden states with an output matrix of random numbers, so that nothing but the vocabulary's work
is measured: student with its gradient, a snapshot as the anchor, an auxiliary model with two bins, language-model loss
and reverse divergence at every site. Each figure is the least of ``--repeats`` steps in a process of its own; memory is
the growth of its peak over what it held before the first step (Linux only).

    python benchmarks/loss/run.py
    python benchmarks/loss/run.py --small        # a few seconds, nothing is stored
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
HIDDEN = 256
SHAPES = [(32_000, 512), (32_000, 2048), (128_000, 512), (128_000, 1536)]
SMALL = [(8_000, 256), (8_000, 1024)]
CHUNKS = [512, 1024, 2048]


def one(vocab_size: int, num_sites: int, loss: str, chunk: int, repeats: int) -> dict[str, float]:
    """Seconds and peak growth in MiB of a step; run in a process of its own."""
    import numpy as np
    import torch
    from torch import nn

    from constraintlang_runtime.anchor import Anchor
    from constraintlang_runtime.auxiliary import AuxiliaryHead
    from constraintlang_runtime.chunked_loss import ChunkedLoss
    from constraintlang_runtime.data import Batch
    from constraintlang_runtime.groups import Group
    from constraintlang_runtime.micro_batch import GroupRows, MicroBatch
    from constraintlang_runtime.settings import RegularizerConfig
    from constraintlang_runtime.step_loss import plain_loss

    class Table(nn.Module):
        """Hidden states [1, S + 1, H] that are parameters, and an output matrix."""

        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Parameter(torch.randn(1, num_sites + 1, HIDDEN))
            self.lm_head = nn.Linear(HIDDEN, vocab_size, bias=False)
            self.config: Any = SimpleNamespace(get_text_config=SimpleNamespace)

        def get_output_embeddings(self) -> nn.Linear:
            """The output matrix."""
            return self.lm_head

        def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool = False) -> Any:
            """Logits of every position."""
            return SimpleNamespace(logits=self.lm_head(self.hidden))

    class Tilted(Group):
        """A group whose second bin is suppressed."""

        def log_potential(self) -> torch.Tensor:
            """log ψ [2]."""
            return torch.tensor([0.0, -3.0])

    torch.manual_seed(0)
    model = Table()
    anchor = Anchor.snapshot(model)
    head = AuxiliaryHead(anchor.feature_size, vocab_size, 2, rank=32, width=128).requires_grad_(False).eval()
    ids = torch.randint(vocab_size, (1, num_sites + 1))
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    batch = Batch(ids, torch.ones_like(ids), ids, everywhere)
    none = torch.zeros(0, dtype=torch.long)
    group = Tilted("g", (), (), [], 1.0, np.zeros(0), head=head)
    whole = MicroBatch(batch, batch, [GroupRows(group, torch.zeros(1, dtype=torch.long), none, 0.0)], anchor)
    config = RegularizerConfig(prefixes="corpus", chunk_sites=chunk, loss=loss)
    chunked = ChunkedLoss(model, config) if loss == "chunked" else None
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_kibibytes()
    seconds = []
    for _ in range(repeats):
        model.zero_grad()
        started = time.perf_counter()
        found = chunked(model, whole, whole.sites(config)) if chunked else plain_loss(model, whole, config)
        assert found is not None
        found.total.backward()
        seconds.append(time.perf_counter() - started)
    return {
        "seconds": min(seconds),
        "mebibytes": (peak_kibibytes() - before) / 1024,
        "loss": float(found.total),
    }


def peak_kibibytes() -> int:
    """The most memory that this process held since the peak was last reset."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1])


def measured(*words: object) -> dict[str, float]:
    """``one`` in a fresh process."""
    command = [sys.executable, __file__, "--one", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table; store it unless ``--small``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="small shapes, nothing stored")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        vocab_size, num_sites, loss, chunk, repeats = arguments.one
        print(json.dumps(one(int(vocab_size), int(num_sites), loss, int(chunk), int(repeats))))
        return
    from constraintlang_runtime.versions import versions

    rows = []
    print(f"{'V':>7} {'sites':>6} {'path':>8} {'chunk':>6} {'s':>7} {'MiB':>7}  time, memory against plain")
    for vocab_size, num_sites in SMALL if arguments.small else SHAPES:
        plain = measured(vocab_size, num_sites, "plain", 2048, arguments.repeats)
        tried = [("plain", 2048, plain)]
        for chunk in (c for c in CHUNKS if c <= num_sites):
            tried.append(
                ("chunked", chunk, measured(vocab_size, num_sites, "chunked", chunk, arguments.repeats))
            )
        for path, chunk, found in tried:
            if abs(found["loss"] / plain["loss"] - 1) > 1e-5:
                raise SystemExit(f"the paths disagree: {found['loss']} against {plain['loss']}")
            row = {
                "vocabulary": vocab_size, "sites": num_sites, "path": path, "chunk_sites": chunk,
                "seconds": round(found["seconds"], 3), "mebibytes": round(found["mebibytes"]),
                "time_against_plain": round(found["seconds"] / plain["seconds"], 3),
                "memory_against_plain": round(found["mebibytes"] / plain["mebibytes"], 3),
            }  # fmt: skip
            rows.append(row)
            print(
                f"{vocab_size:>7} {num_sites:>6} {path:>8} {chunk:>6} {row['seconds']:>7} {row['mebibytes']:>7}  "
                f"{row['time_against_plain']}, {row['memory_against_plain']}",
                flush=True,
            )
    if not arguments.small:
        record = {
            "command": "python benchmarks/loss/run.py", "hidden_size": HIDDEN, "repeats": arguments.repeats,
            "dtype": "float32", "versions": versions(), "rows": rows,
        }  # fmt: skip
        (HERE / "results" / "loss.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
