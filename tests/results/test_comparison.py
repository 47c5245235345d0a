"""The page that sets studies side by side: what may be compared, and what is."""

import copy
import re
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from codes.results.opening import opened_study
from codes.results.report.comparison import comparison_page, costs
from codes.results.report.findings import read
from codes.tuning.objective import Objective
from tests.results.test_select import POINTS, trials


def ran_on(claim, made):
    """Trials with a note of their device and threads; ``claim=None``: without one."""
    for trial in made if claim else ():
        trial.user_attrs["claim"] = {"threads": 1, **claim}
    return tuple(made)


def test_studies_are_compared_by_their_fronts(dual, studies):
    with opened_study([f"storage.path={studies}/study.db", f"output_dir={studies}/MultiONet"]) as kept:
        single = read(kept)
    (picture,) = costs([replace(dual, trials=ran_on(single.chosen.user_attrs["claim"], trials(*POINTS))), single])
    traces = [(trace.name, trace.mode, trace.marker.symbol, trace.showlegend) for trace in picture.figure.data]
    several, one = dual.kept.name, single.kept.name
    assert traces == [
        (several, "markers", None, None),
        (several, "lines", None, False),
        (several, "markers", "star", False),
        (one, "markers", None, None),
        (one, "markers", "star", False),
    ]
    _, front, knee, _, best = picture.figure.data
    assert list(zip(front.x, front.y, strict=True)) == [(0.1, 8.5), (0.2, 2.0), (0.4, 1.0)]
    assert (knee.text, best.text) == (("trial 1",), (f"trial {single.chosen.number}",))


def test_studies_of_other_questions_are_not_compared_without_a_word(dual, studies):
    with opened_study([f"storage.path={studies}/study.db", f"output_dir={studies}/MultiONet"]) as kept:
        single = read(kept)
    assert "Beware" not in comparison_page("both", [(dual, "a.html"), (single, "b.html")])
    other = copy.deepcopy(single.kept.config)
    other.trainer.target_percentile, other.dataset.tolerance = 50.0, 1e-9
    page = comparison_page("both", [(dual, "a.html"), (replace(single, kept=replace(single.kept, config=other)), "b")])
    names = dual.kept.name, single.kept.name
    assert (
        "dataset.tolerance is None in {}, 1e-09 in {}; trainer.target_percentile is 99 in {}, 50 in {}.".format(
            *names, *names
        )
        in page
    )


X = {"hardware": "x"}
ALIKE = {
    "the same": ({}, X, 1, 1),
    "floor": ({"dataset.tolerance": 1e-9}, X, 2, 2),
    "data, by the last of many words": ({"dataset.generate.seed": 43}, X, 2, 2),
    "source of the data": ({"dataset.source": "download"}, X, 2, 2),
    "unit": ({"dataset.log10_transform": False}, X, 2, 2),
    "percentile, which is that of lae99": ({"trainer.target_percentile": 50.0}, X, 2, 1),
    "device, which is that of times": ({}, {"hardware": "y"}, 2, 1),
    "threads, which take part in times": ({}, {**X, "threads": 2}, 2, 1),
    "threads beside a GPU, which do not": ({}, {**X, "threads": 2, "device": "cuda:1"}, 1, 1),
    "device that nobody has noted": ({}, None, 2, 1),
}


@pytest.mark.parametrize(("changed", "claim", "by_time", "by_size"), ALIKE.values(), ids=ALIKE)
def test_studies_share_a_ranking_where_what_they_measure_is_the_same(changed, claim, by_time, by_size, dual):
    """``by_time`` in lae99 and inference_time, ``by_size`` in mlae and n_parameters."""

    def made(name, config, claim, metrics):
        objective = Objective(metrics, epochs=100)
        found = ran_on(claim, trials(*POINTS, objective=objective))
        return replace(dual, kept=replace(dual.kept, name=name, config=config, objective=objective), trials=found)

    first, other = copy.deepcopy(dual.kept.config), copy.deepcopy(dual.kept.config)
    first.dataset.generate.n_train = other.dataset.generate.n_train = 10**30  # of many digits
    for key, value in changed.items():
        OmegaConf.update(other, key, value)
    for metrics, count in ((("lae99", "inference_time"), by_time), (("mlae", "n_parameters"), by_size)):
        own = {**X, "device": (claim or X).get("device", "cpu")}
        compared = [made("one", first, own, metrics), made("two", other, claim, metrics)]
        compared.append(replace(made("empty", other, claim, metrics), trials=()))
        page = comparison_page("both", [(found, found.kept.name) for found in compared])
        limits = page.partition('id="within-your-limits"')[2].partition("</section>")[0]
        pictures = costs(compared)
        assert (limits.count("<table"), len(pictures)) == (count, count)
        assert all(picture.figure.layout.showlegend for picture in pictures)  # which says whose each is
        assert all(f"The trials of {name} that" in limits for name in (("one", "two") if count == 2 else ("one, two",)))
        assert ("Beware" in page) == (by_time == 2)


def test_what_no_study_beats_is_listed_by_what_it_reaches(dual):
    first = replace(dual, trials=tuple(trials(*POINTS)))
    other = replace(dual, kept=replace(dual.kept, name="other"), trials=tuple(trials((0.15, 3.0), (0.3, 2.0))))
    text = comparison_page("both", [(first, "first.html"), (other, "other.html")])
    listed = text.partition('id="within-your-limits"')[2].partition("</section>")[0]
    rows = [re.findall("<td>(.*?)</td>", row) for row in listed.split("<tr>")]
    name = dual.kept.name
    assert f">{name}: LatentPoly reaches" in text and ">other: LatentPoly reaches" in text
    assert [row[:2] for row in rows if row] == [[name, "4"], ["other", "0"], [name, "1"], [name, "2"]]
