"""Fixtures of all tests: no network, few threads, and one tiny world per session."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook
from tiny_models import World, write_classifier, write_world

# Shapes and types of what computes are checked at every call of every test.
TENSOR_MODULES = (
    "anchor", "auxiliary", "cached_anchor", "decoding", "decoding_search", "fitting", "hard_masks", "output_head",
    "penalty", "projection", "regularizer", "token_draws", "vocabulary_loss",
)  # fmt: skip
install_import_hook([f"constraintlang_runtime.{name}" for name in TENSOR_MODULES], "beartype.beartype")

# The same examples everywhere, so that a red test is about the change; `--hypothesis-profile=search` looks further.
# No test fails for want of time: a machine may be slowed down by others to a third.
UNTIMED = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("fixed", UNTIMED, derandomize=True)
hypothesis.settings.register_profile("search", UNTIMED, derandomize=False, print_blob=True)
# For `planted_bugs.py`: the first failure as it is.
hypothesis.settings.register_profile(
    "planted", UNTIMED, derandomize=True, report_multiple_bugs=False, phases=[hypothesis.Phase.generate]
)
hypothesis.settings.load_profile("fixed")

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported, which is later than this


def pytest_collection_finish() -> None:
    """Every `train` collects garbage, which goes through all objects of torch and the tests unless they are frozen."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny model with its rows, prompts, word list and policy; shared, so nothing may be written there."""
    import datasets
    import torch

    torch.set_num_threads(1)
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def copied_world(world: World, tmp_path: Path) -> World:
    """The same world with its policy and word list in a folder of the test's own."""
    for name in ("kind.policy", "words.tsv"):
        (tmp_path / name).write_bytes((world.root / name).read_bytes())
    return World(tmp_path, world.model, tmp_path / "kind.policy", world.data, world.prompts)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A softmax classifier with the labels rude, calm and odd."""
    return write_classifier(tmp_path_factory.mktemp("classifier") / "three", ("rude", "calm", "odd"))


@pytest.fixture
def slow_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Word lists stand for scorers of any kind: called each by itself, and remembered."""
    monkeypatch.setattr("constraintlang_runtime.scorers.pool.is_quick", lambda scorer: False)
