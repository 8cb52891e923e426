"""Two processes train the model that one trains, and a resumed run of two ends in the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_process import two_ranks
from safetensors.torch import load_file
from tiny_models import POLICY, World

from constraintc.main import main
from constraintlang_runtime.ranks import from_main, gathered, interleaved, is_main, rank_and_size


def weights(folder: Path) -> torch.Tensor:
    loaded = load_file(folder / "model.safetensors")
    return torch.cat([loaded[name].flatten() for name in sorted(loaded)])


@pytest.mark.slow
def test_two_processes_are_one(world: World, tmp_path: Path) -> None:
    """One on the plain path of the loss, two on the chunked one."""
    (tmp_path / "words.tsv").write_bytes((world.root / "words.tsv").read_bytes())
    policy = tmp_path / "p.policy"  # with a budget, and the kept checkpoint chosen
    policy.write_text(POLICY + "same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen\n")
    common: dict[str, Any] = {"use_cpu": True, "anchor": "start", "policy": policy, "keep": "best"}
    common |= {"selection_prompts": 12, "save_total_limit": 9}
    assert main(["train", *world.flags(tmp_path / "one", per_device_train_batch_size=4, **common)]) == 0
    flags = world.flags(
        tmp_path / "two", per_device_train_batch_size=2, loss="chunked", chunk_sites=16, **common
    )
    codes, both = two_ranks(tmp_path, ["train", *flags])
    assert codes == [0, 0], [rank.err.read_text()[-2000:] for rank in both]
    assert [rank.out.read_text().count("trained 6 steps") for rank in both] == [1, 0]  # one of them speaks
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    records = [json.loads((tmp_path / n / "constraint" / "run.json").read_text()) for n in ("one", "two")]
    chosen = [[(r["step"], r["chosen"]) for r in record["selection"]] for record in records]
    assert chosen[0] == chosen[1]
    spent = [[budget["spent"] for budget in record["preserve"]] for record in records]
    assert spent[0] == pytest.approx(spent[1], rel=1e-3)
    # as if killed after the checkpoint of step 4
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "checkpoint-6")
    (tmp_path / "two" / "constraint" / "run.json").unlink()
    (tmp_path / "two" / "model.safetensors").unlink()
    codes, both = two_ranks(tmp_path, ["train", *flags, "--resume"])
    assert codes == [0, 0], [rank.err.read_text()[-2000:] for rank in both]
    assert "checkpoint-4" in both[0].err.read_text()
    assert torch.equal(weights(tmp_path / "two"), two)


def test_one_process_is_the_ordinary_case() -> None:
    assert is_main()
    assert rank_and_size() == (0, 1)
    assert gathered("x") == ["x"]
    assert from_main("x") == "x"


@pytest.mark.parametrize("num_parts", [1, 2, 3, 5])
def test_interleaving_undoes_taking_every_nth(num_parts: int) -> None:
    everything = list(range(7))
    assert interleaved([everything[rank::num_parts] for rank in range(num_parts)]) == everything
