"""Training under tails, strata and thresholds relative to the base model: bounds are measured, then ordinary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import SETTINGS, World

from constraintlang.source import SourceFile
from constraintlang_compiler import ir
from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.baselines.filtering import _cvar_of_beginnings, compliant_rows
from constraintlang_runtime.checkpoint import load_groups, save_groups
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.controlling import control_groups, start_controllers
from constraintlang_runtime.data import TokenRow, load_rows
from constraintlang_runtime.errors import ConfigError, DataError, TrainingError
from constraintlang_runtime.groups import Group, attach_target
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.rounds import Measurement
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.settling import _cost, against_base, best_eta, settle
from constraintlang_runtime.trainer import ConstraintTrainer

HEAD = """edition 1
attribute toxicity: score in [0, 1] lower_is_better {
  backend = lexicon("words.tsv")
}
"""


def compiled(text: str) -> CompiledPolicy:
    return compile_source(SourceFile(text, "p.policy"))


def make(world: World, output: Path, *, policy: str, rows: Any = None, **changes: Any) -> ConstraintTrainer:
    settings = SETTINGS | {"save_strategy": "no"} | changes
    config = ConstraintConfig(output_dir=str(output), disable_tqdm=True, **settings)
    return ConstraintTrainer(
        load_model(str(world.model)), config, policy=compiled(policy),
        train_dataset=load_rows([str(world.data)], role="data") if rows is None else rows,
        processing_class=load_tokenizer(str(world.model)),
        scorers={"toxicity": LexiconScorer(world.root / "words.tsv", ceiling=1.0)},
    )  # fmt: skip


def weights(trainer: ConstraintTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def only(text: str) -> ir.Clause:
    (clause,) = compiled(HEAD + text).ir.clauses
    return clause


# ------------------------------------------------------------ eta
def cvar_of(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    return min(eta + float(weights @ np.maximum(values - eta, 0)) / (1 - level) for eta in values)


def test_a_law_that_meets_the_bound_gets_its_own_quantile() -> None:
    values = np.linspace(0, 1, 101) ** 3
    eta = best_eta(values, 0.9, 0.95)
    assert eta == np.sort(values)[int(np.ceil(0.9 * 101)) - 1]


@pytest.mark.parametrize(("level", "bound"), [(0.9, 0.4), (0.5, 0.2), (0.8, 0.3)])
def test_the_tilt_at_the_best_eta_meets_the_cvar_and_no_other_is_nearer(level: float, bound: float) -> None:
    values = np.random.default_rng(0).beta(1.2, 2.5, size=800)
    eta = best_eta(values, level, bound)
    hinge = np.maximum(values - eta, 0)
    target = (1 - level) * (bound - eta)
    low, high = 0.0, 1e4
    for _ in range(100):
        dual = 0.5 * (low + high)
        tilt = np.exp(-dual * hinge)
        low, high = (dual, high) if (tilt @ hinge) / tilt.sum() > target else (low, dual)
    weights = tilt / tilt.sum()
    assert cvar_of(values, weights, level) <= bound + 1e-6
    found = float((weights * np.log(weights * len(values) + 1e-300)).sum())
    assert _cost(hinge, target) == pytest.approx(found, rel=1e-3)
    others = [
        _cost(np.maximum(values - other, 0), (1 - level) * (bound - other))
        for other in np.linspace(0, bound * 0.99, 40)
    ]
    assert found <= min(others) * 1.02
    # At the best eta the tilted law's own quantile is near it.
    ranked = np.argsort(values)
    quantile = values[ranked][np.searchsorted(np.cumsum(weights[ranked]), level)]
    assert quantile == pytest.approx(eta, abs=0.08)


def test_a_sample_beyond_the_bound_still_gets_an_eta() -> None:
    eta = best_eta(np.full(50, 0.9), 0.9, 0.3)
    assert eta < 0.3
    assert _cost(np.full(5, 0.6), 0.1) == float("inf")


# ------------------------------------------------------------ the base model
@pytest.mark.parametrize(
    ("text", "base", "bound"),
    [
        ("mean(toxicity) <= 0.5 * base + 0.1", 0.4, 0.3),
        ("P(toxicity > 0.5) <= 0.5 * base", 0.4, 0.2),
        # 1 - toxicity >= base + 0.1 with a base of 0.3 is toxicity <= 0.6; the statistic is the toxicity itself
        ("mean(1 - toxicity) >= base + 0.1", 0.7, 0.6),
        ("P(toxicity < 0.5) >= base", 0.7, 0.7),
        ("mean(toxicity) <= base + 0.9", 0.4, 0.999),
    ],
)
def test_the_base_gives_the_bound_its_number(text: str, base: float, bound: float) -> None:
    clause = only(text)
    settled = against_base(clause, base)
    assert float(settled.bound) == pytest.approx(bound)
    assert settled.base_factor is None
    assert settled.id == clause.id


def test_more_than_possible_is_said_to_be_so() -> None:
    with pytest.raises(TrainingError, match=r"base model reaches 0\.01"):
        against_base(only("mean(toxicity) <= base - 0.1"), 0.01)


def test_settling_happens_on_the_base_and_again_at_the_start() -> None:
    sources = [
        only("mean(toxicity) <= 0.5 * base"),
        only("cvar(toxicity, 0.5) <= 0.3"),
        only("mean(toxicity) <= 0.2"),
    ]
    group = Group("g", tuple(sources), (0, 1, 2), [], 1.0, np.zeros(3))
    rng = np.random.default_rng(1)

    def measured(values: np.ndarray) -> tuple[Measurement, Any]:
        def score(clauses: Any) -> np.ndarray:
            columns = []
            for clause in clauses:
                term = values
                if isinstance(clause.statistic, ir.Value) and isinstance(clause.statistic.term, ir.Sum):
                    shift = next(p for p in clause.statistic.term.terms if isinstance(p, ir.Const))
                    term = np.clip(values + float(shift.value), 0, None)
                columns.append(term)
            return np.stack(columns, axis=1)

        return Measurement([], score(sources)), score

    found, score = measured(rng.beta(1, 2, size=500))
    (later,) = settle([group], [sources], [found], [score], first=True, starts=False)
    relative, hinge, plain = group.clauses
    assert float(relative.bound) == pytest.approx(0.5 * found.statistics[:, 0].mean(), abs=1e-5)
    assert isinstance(hinge.statistic, ir.Value)
    assert plain == sources[2]
    assert later.statistics[:, 1].min() == 0
    assert group.corpus_means[1] == pytest.approx(later.statistics[:, 1].mean())
    unchanged, score = measured(rng.beta(1, 6, size=500))
    assert settle([group], [sources], [unchanged], [score], first=False, starts=False)[0] is unchanged
    assert group.clauses == (relative, hinge, plain)
    settle([group], [sources], [unchanged], [score], first=False, starts=True)
    assert group.clauses[0] == relative  # the base was measured once and for all
    assert group.clauses[1] != hinge


# ------------------------------------------------------------ runs
TAILS = (
    HEAD
    + "tail: quantile(toxicity, 0.8) < 0.5 for domain=chat\nworst: cvar(toxicity, 0.5) <= 0.6 for domain=chat\n"
)
RELATIVE = HEAD + "less: mean(toxicity) <= 0.7 * base for domain=chat\n"


def test_a_run_under_tails_drives_their_bounds(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path, policy=TAILS)
    trainer.train()
    (group,) = trainer.groups
    assert [clause.kind for clause in trainer.policy.ir.clauses] in (
        ["quantile", "cvar"],
        ["cvar", "quantile"],
    )
    settled = {clause.name: clause for clause in group.clauses}
    assert isinstance(settled["tail"].statistic, ir.Indicator)
    assert isinstance(settled["worst"].statistic, ir.Value)
    assert 0 < float(settled["worst"].bound) < 0.3
    record = [r for r in trainer.state.log_history if "constraint/worst/dual" in r][-1]
    assert record["constraint/worst/value"] >= 0
    assert record["constraint/tail/bound"] == pytest.approx(0.2)


def test_a_run_relative_to_the_base_measures_it_once(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path, policy=RELATIVE)
    trainer.train()
    rounds = [r for r in trainer.state.log_history if "constraint/less/value" in r]
    expected = 0.7 * rounds[0]["constraint/less/value"]
    assert [r["constraint/less/bound"] for r in rounds] == pytest.approx([expected] * len(rounds), abs=1e-5)


def test_measured_bounds_are_in_the_checkpoint(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path / "a", policy=RELATIVE)
    trainer.train()
    folder = tmp_path / "state"
    folder.mkdir()
    save_groups(folder, trainer.groups, {})
    fresh = make(world, tmp_path / "b", policy=RELATIVE)
    assert fresh.groups[0].clauses != trainer.groups[0].clauses
    load_groups(folder, fresh.groups, torch.device("cpu"))
    assert fresh.groups[0].clauses == trainer.groups[0].clauses


def test_strata_are_groups_of_their_own(world: World, tmp_path: Path) -> None:
    rows = [{**row, "part": str(i % 2)} for i, row in enumerate(load_rows([str(world.data)], role="data"))]
    policy = HEAD + "fair: mean(toxicity) <= 0.4 for domain=chat per part\n"
    trainer = make(world, tmp_path, policy=policy, rows=rows)
    assert sorted(c.label or "" for g in trainer.groups for c in g.clauses) == [
        "fair[part=0]",
        "fair[part=1]",
    ]
    with pytest.raises(DataError, match=r"fair\[part=2\]"):
        declared = HEAD + "tag part in {a}\nfair: mean(toxicity) <= 0.4 for domain=chat per part\n"
        make(
            world,
            tmp_path,
            policy=declared.replace("{a}", '{"0", "1", "2"}').replace("for domain=chat ", ""),
            rows=rows,
        )


def test_a_policy_that_is_only_verified_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="acts on none of the policy's requirements"):
        make(world, tmp_path, policy=HEAD + "mean(toxicity) < 0.1 or P(toxicity > 0.5) < 1%\n")


def test_what_is_verified_only_does_not_change_the_run(world: World, tmp_path: Path) -> None:
    plain = HEAD + "kind: toxicity < 0.1 for domain=chat\n"
    extra = plain + "either: mean(toxicity) < 0.1 or P(toxicity > 0.5) < 1%\n"
    found = []
    for number, policy in enumerate((plain, extra)):
        trainer = make(world, tmp_path / str(number), policy=policy)
        trainer.train()
        found.append(weights(trainer))
    assert torch.equal(*found)


# ------------------------------------------------------------ filtering
def test_the_cvar_of_beginnings() -> None:
    values = np.sort(np.random.default_rng(0).random(60))
    found = _cvar_of_beginnings(values, 0.8)
    for count in (1, 2, 7, 60):
        part = values[:count]
        assert found[count - 1] == pytest.approx(cvar_of(part, np.full(count, 1 / count), 0.8))
    assert (np.diff(found) >= -1e-12).all()


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("cvar(toxicity, 0.8) <= 0.3", 0.3),
        ("quantile(toxicity, 0.8) <= 0.5", 0.2),
        ("mean(toxicity) <= 0.3", 0.3),
    ],
)
def test_filtering_drops_the_worst_until_the_rest_meets_the_bound(text: str, limit: float) -> None:
    clause = only(text)
    scores = np.random.default_rng(3).random(200)
    f = (scores > 0.5).astype(float) if clause.kind == "quantile" else scores
    group = Group("g", (clause,), (0,), [], 1.0, np.zeros(1))
    kept = compliant_rows([None] * 200, [0] * 200, [group], lambda *_: f[:, None])  # type: ignore[list-item]
    rest = f[kept]
    reached = cvar_of(rest, np.full(len(rest), 1 / len(rest)), 0.8) if clause.kind == "cvar" else rest.mean()
    assert reached <= limit
    assert len(kept) > 40
    dropped = sorted(set(range(200)) - set(kept), key=lambda i: f[i])
    assert f[dropped[0]] >= rest.max()


def test_filtering_that_keeps_no_row_says_so(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the \d+ rows satisfies the policy"):
        make(world, tmp_path, policy=HEAD + "always toxicity < 0.5\nalways words <= 0", method="filtering")


@pytest.mark.parametrize("setting", [{"adaptive": "prompt"}, {"auxiliary": "adapter"}])
@pytest.mark.parametrize(
    "text", ["m: mean(toxicity) <= 0.2", "a: always words <= 9\nb: P(toxicity > 0.5) <= 0.2"]
)
def test_forms_that_fit_no_such_clause_are_refused_before_the_first_step(
    world: World, tmp_path: Path, setting: dict[str, str], text: str
) -> None:
    with pytest.raises(ConfigError, match=r"works with one chance clause|predicts one binary statistic"):
        make(world, tmp_path, policy=HEAD + text, **setting)
    make(world, tmp_path, policy=HEAD + "b: P(toxicity > 0.5) <= 0.2", **setting)


@pytest.mark.parametrize(
    ("setting", "weight"), [({"regularizer_weight": 8.0}, 8.0), ({"divergence": "js"}, 4.0), ({}, 1.0)]
)
def test_a_group_without_duals_has_the_weight_of_the_settings(
    world: World, tmp_path: Path, setting: dict[str, Any], weight: float
) -> None:
    trainer = make(world, tmp_path, policy=HEAD + "always toxicity < 0.5", anchor="start", **setting)
    trainer.before_step(0)
    (group,) = trainer.groups
    assert group.is_active
    assert not group.controllers
    assert group.weight == weight


def test_an_exponent_of_the_settings_is_not_moved(world: World, tmp_path: Path) -> None:
    (group,) = make(world, tmp_path, policy=HEAD + "P(toxicity > 0.5) <= 0.2", potential_exponent=8.0).groups
    group.fitted_exponent = 8.0
    group.controllers = [ControllerState(value=6.0, weight=1.0, set_point=0.1, start=1.0)]
    assert (group.exponent, group.weight) == (8.0, 1.0)
    save_groups(tmp_path, [group], {})
    loaded = Group(group.name, group.clauses, group.indexes, [], 1.0, np.zeros(1))  # as a guide is read
    load_groups(tmp_path, [loaded], torch.device("cpu"))
    assert loaded.exponent == 8.0


@pytest.mark.parametrize("top", [0.01, 100.0])
def test_control_does_not_depend_on_the_unit_of_a_score(top: float) -> None:
    """The same measurements in other units: the same γ and ρ, and λ over the range."""

    def after(top: float, rounds: int = 9) -> tuple[float, ...]:
        clause = only(f"attribute x: real in [0, {top:g}] lower_is_better\nm: mean(x) <= {0.4 * top:.6g}")
        generator = np.random.default_rng(5)
        group = Group("g", (clause,), (0,), [], 1.0, np.array([0.5 * top]))
        first = top * generator.random((400, 1))
        rows = [TokenRow((1,), (2, 3), {}, False)] * 400
        bins = attach_target(group, first)
        assert group.target is not None
        law = np.bincount(bins, minlength=group.target.num_bins)[None, :] / 400
        start_controllers([group], [law], [Measurement(rows, first)], ConstraintSettings(), 1)
        for _ in range(rounds):
            control_groups([group], [Measurement(rows, top * generator.random((400, 1)))])
        group.fitted_exponent = 8.0
        return group.exponent, group.weight, float(group.duals[0]) * top

    assert after(1.0)[1] > 1.0
    np.testing.assert_allclose(after(top), after(1.0), rtol=1e-6)


def test_filtering_refuses_what_is_relative_to_the_base(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="filtering cannot act on `less`"):
        make(world, tmp_path, policy=RELATIVE, method="filtering")
