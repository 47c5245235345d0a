"""What several studies recommend, measured side by side."""

import random

import optuna
import pytest
from omegaconf import OmegaConf

from codes.errors import UserError
from codes.results.certificate import PREFIX
from codes.results.certify import certify_side_by_side
from codes.results.opening import Kept
from codes.results.side_by_side import SIDE_BY_SIDE, read_side_by_side
from tests.results.test_select import SINGLE, trials


def kept(name, outcome="complete", **dataset):
    """A study without files, of one complete trial."""
    study = optuna.create_study(study_name=name)
    (trial,) = trials((0.1, 1.0), objective=SINGLE, outcome=outcome)
    study.add_trial(trial)
    config = OmegaConf.create({"dataset": dataset, "trainer": {"target_percentile": 99}})
    return Kept(name, study, config, SINGLE, None, None)


def measured(name, error, seconds, at="2026-01-01", seeds=4, outcome="complete"):
    """A study whose trial had about ``error`` in each new training, and took about ``seconds`` in each round."""
    made, draw = kept(name, outcome), random.Random(name)
    for seed in range(seeds):
        score = {"lae99": error * draw.uniform(0.9, 1.1)}
        made.study.set_user_attr(f"{PREFIX}0:{seed}", {"test": {"lae99": 1.0}, "val": score})
    times = [seconds * draw.uniform(0.9, 1.1) for _ in range(20)]
    made.study.set_user_attr(SIDE_BY_SIDE, {"trial": 0, "seconds": times, "at": at, "warning": "load 3"})
    return made


def shared_by(studies):
    return read_side_by_side([(each, each.trials()) for each in studies])


def test_the_most_accurate_on_val_comes_first_and_neighbours_are_compared():
    studies = [measured("slow", 0.2, 0.009), measured("fast", 0.1, 0.001), measured("as_fast", 0.21, 0.001)]
    found = shared_by(studies)
    assert found.studies[0] == "fast" and set(found.studies[1:]) == {"slow", "as_fast"}
    assert found.columns[:3] == ("study", "trial", "lae99, as chosen")
    assert found.rows()[0][:4] == ("fast", "0", "0.1", "1 (1-1)")
    (_, told), *none = found.comparisons()
    assert not none
    better = "fast is better in both" if found.studies[1] == "slow" else "differ in accuracy only"
    assert [row[:2] for row in told] == [found.studies[:2], found.studies[1:]]
    assert [row[2] for row in told] == [better, "differ in time only"]
    assert found.notes()[-1] == "Beware: load 3."


def test_only_the_newest_measurement_that_two_share_is_shown():
    old, older = measured("a", 0.1, 1.0, "2026-01-01"), measured("b", 0.1, 1.0, "2026-01-01")
    assert shared_by([old, older]).studies
    new = [measured(name, 0.1, 1.0, "2026-01-02") for name in "cd"]
    assert {*shared_by([old, *new, older]).studies} == {"c", "d"}
    assert shared_by([old, older, new[0]]) is None
    assert shared_by([kept("e"), kept("f")]) is None


def test_a_study_that_recommends_another_trial_since_says_so():
    studies = [measured("a", 0.1, 1.0), measured("b", 0.2, 1.0)]
    assert "went on" not in " ".join(shared_by(studies).notes())
    studies[1].study.add_trial(*trials((0.05, 1.0), objective=SINGLE))
    assert "b went on: it recommends trial 1 by now, which was not measured." in shared_by(studies).notes()


def test_what_a_change_has_left_out_is_not_shown():
    studies = [measured("a", 0.1, 1.0), measured("b", 0.2, 1.0), measured("c", 0.3, 1.0)]
    left = measured("c", 0.3, 1.0, outcome="left_out")
    assert {*shared_by(studies).studies} == {"a", "b", "c"}
    assert {*shared_by([*studies[:2], left]).studies} == {"a", "b"}


def test_without_new_seeds_only_times_are_there():
    found = shared_by([measured("a", 0.1, 0.002, seeds=0), measured("b", 0.1, 0.001, seeds=0)])
    assert [row[3:6] for row in found.rows()] == [("-", "-", "0")] * 2
    (_, rows), *_ = found.comparisons()
    assert rows[0][2] == "not enough trainings to compare"


def test_studies_of_other_data_are_refused_before_anything_is_spent():
    one, other = kept("one", source="generate", generate={"seed": 1}), kept("other", source="generate")
    said = []
    with pytest.raises(UserError, match=r"dataset.generate is {'seed': 1} in one, None in other; certify each"):
        certify_side_by_side(
            [(one, one.trials()[0]), (other, other.trials()[0])], seeds=[1], rounds=10, device="cpu", say=said.append
        )
    assert not said
