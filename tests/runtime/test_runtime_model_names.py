"""Names of models: folders and ids of the hub, pinned to a revision wherever a model is loaded by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import World

from constraintc.main import main
from constraintlang_runtime.card import write_card
from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.estimate import row_counts
from constraintlang_runtime.estimate.model_source import read_shape
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.model_names import commit_of, is_hub_id, split_revision
from constraintlang_runtime.scorers.hf_model import load_scoring_model

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gpt2", ("gpt2", None)),
        ("owner/name", ("owner/name", None)),
        ("owner/name@main", ("owner/name", "main")),
        ("owner/name@refs/pr/3", ("owner/name", "refs/pr/3")),
        (f"gpt2@{'c' * 40}", ("gpt2", "c" * 40)),
        ("owner/name@", ("owner/name@", None)),
        ("./owner/name@main", ("./owner/name@main", None)),
        ("owner/name@-x", ("owner/name@-x", None)),
    ],
)
def test_the_parts_of_a_name(name: str, parts: tuple[str, str | None]) -> None:
    assert split_revision(name) == parts
    assert is_hub_id(name) == (parts != (name, None) or "@" not in name)


def test_a_folder_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name@v1").mkdir()
    assert split_revision("owner/name@v1") == ("owner/name@v1", None)


@pytest.fixture
def hub(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub that holds two revisions of `owner/tiny`, of which `v1` has weights of its own."""
    cache = tmp_path / "hub"
    folder = cache / "models--owner--tiny"
    (folder / "refs").mkdir(parents=True)
    for branch, commit in COMMITS.items():
        (folder / "refs" / branch).write_text(commit)
        shutil.copytree(world.root / "model", folder / "snapshots" / commit)
    model = load_model(str(world.root / "model"), device="cpu")
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    model.config.initializer_range = 0.25
    model.save_pretrained(folder / "snapshots" / COMMITS["v1"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


def test_a_revision_is_what_is_loaded(hub: Path) -> None:
    own, pinned = (load_model(name, device="cpu") for name in ("owner/tiny", "owner/tiny@v1"))
    assert (commit_of("owner/tiny"), commit_of("owner/tiny@v1")) == (COMMITS["main"], COMMITS["v1"])
    torch.testing.assert_close(pinned.lm_head.weight, 1.5 * own.lm_head.weight)
    assert len(load_tokenizer("owner/tiny@v1")) == len(load_tokenizer("owner/tiny"))
    assert read_shape("owner/tiny@v1").hidden == read_shape("owner/tiny").hidden
    scoring = load_scoring_model("owner/tiny@v1", "causal language model", attribute="surprise", device="cpu")
    torch.testing.assert_close(scoring.model.lm_head.weight, pinned.lm_head.weight)
    assert scoring.files.digest() == f"owner/tiny@{COMMITS['v1']}"  # so that its scores are kept


def test_a_revision_that_is_not_there_is_named(hub: Path) -> None:
    for load in (load_model, load_tokenizer, read_shape):
        with pytest.raises(ModelError, match="owner/tiny@v7"):
            load("owner/tiny@v7")


def test_a_run_says_which_commit_it_started_from(hub: Path, world: World, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert main(["train", *world.flags(output, model="owner/tiny@v1", method="plain", max_steps=1)]) == 0
    record = json.loads((output / "constraint" / "run.json").read_text())
    assert (record["model"], record["model_commit"]) == ("owner/tiny@v1", COMMITS["v1"])
    card = write_card(output, "toxicity < 0.1\n", record).read_text()
    assert "base_model: owner/tiny\n" in card
    assert f"start model: owner/tiny@v1, commit `{COMMITS['v1']}`" in card


def test_what_is_not_of_the_hub_has_no_commit(hub: Path, world: World) -> None:
    assert commit_of(str(world.root / "model")) is None
    assert commit_of("owner/another") is None
    assert commit_of("owner/tiny", "v7") is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft
@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")  # in peft, without a network
def test_an_adapter_is_loaded_on_the_revision_that_it_was_trained_on(
    hub: Path, world: World, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    flags = world.flags(output, model="owner/tiny@v1", method="plain", max_steps=1, lora_r=2)
    assert main(["train", *flags]) == 0
    known = json.loads((output / "adapter_config.json").read_text())
    assert (known["base_model_name_or_path"], known["revision"]) == ("owner/tiny", COMMITS["v1"])
    pinned = load_model("owner/tiny@v1", device="cpu")
    own = load_model(str(output), device="cpu")
    torch.testing.assert_close(own.get_output_embeddings().weight, pinned.get_output_embeddings().weight)
    assert any("lora" in name for name, _ in own.named_parameters())
    # the adapter itself as a repository
    folder = hub / "models--owner--lora"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "v2").write_text("d" * 40)
    shutil.copytree(output, folder / "snapshots" / ("d" * 40))
    again = load_model("owner/lora@v2", device="cpu")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, own(input_ids=ids).logits)
    assert commit_of("owner/lora@v2") == "d" * 40


def test_a_run_is_not_resumed_from_another_commit(
    hub: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    flags = world.flags(output, model="owner/tiny", method="plain", max_steps=2, save_steps=1)
    assert main(["train", *flags]) == 0
    (output / "constraint" / "run.json").unlink()
    (hub / "models--owner--tiny" / "refs" / "main").write_text(COMMITS["v1"])
    assert main(["train", *flags, "--resume"]) == 2
    err = capsys.readouterr().err
    assert f"from commit {COMMITS['main']} of `owner/tiny`" in err
    flags = world.flags(
        output, model=f"owner/tiny@{COMMITS['main']}", method="plain", max_steps=2, save_steps=1
    )
    assert main(["train", *flags, "--resume"]) == 0


def test_tokens_are_counted_by_the_tokenizer_of_the_revision(hub: Path, world: World) -> None:
    rows = row_counts._counter("owner/tiny@v1")
    assert rows("a b c") == 3
