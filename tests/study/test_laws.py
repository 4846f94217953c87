"""Laws find what made the numbers, say how sure they are, and show what they leave over."""

from __future__ import annotations

import numpy as np
import pytest

from fourd.study import laws
from fourd.study.costs import Cost
from tests.study.synthetic import figures, study

SIZES = (1e6, 3e6, 1e7, 3e7)
MORE = (0.1, 0.2, 0.3, 0.4)
LINE = tuple(0.1 * np.log10(size / SIZES[0]) for size in SIZES)


def sized(gains=LINE, losses=(0.4, 0.3, 0.25, 0.22), seeds=(0, 1, 2)):
    found = figures(study(MORE), gains, seeds)
    found.costs = {
        (f"at {ratio:g}", seed): Cost(int(size), 100, 100, size, 100 * size, health={"held_out_loss": loss})
        for ratio, size, loss in zip(MORE, SIZES, losses, strict=True)
        for seed in seeds
    }
    return found


def line_of(found, entry="camera_motion"):
    asked = next(one for one in found.asked if one.name == entry)
    scores = [found.scores(asked, laws.Pick(arm.name)) for arm in found.study.arms]
    return laws.fit_log_line(SIZES, scores, asked)


def test_a_line_over_the_logarithm_is_found_with_an_interval_that_holds_it():
    line = line_of(sized())
    assert line.step.interval.low < 0.1 < line.step.interval.high
    assert line.step.value == pytest.approx(0.1, abs=0.01)
    assert sum(rest.value for rest in line.rest) == pytest.approx(0, abs=1e-9)


def test_what_no_line_explains_is_left_over():
    bent = (0.0, 0.3, 0.3, 0.0)
    rest = [one.value for one in line_of(sized(bent)).rest]
    assert min(rest[1:3]) > 0.1
    assert max(rest[0], rest[3]) < -0.1


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.1, 0.3, 0.4), (0.0, 1.0, 0.1), (0.05, 0.2, 1.5)])
def test_a_power_law_with_a_floor_is_found_again(floor, scale, exponent):
    xs = np.geomspace(1e5, 1e8, 6)
    truth = floor + scale * (xs / xs[0]) ** -exponent
    law = laws.fit_power_law(xs.tolist(), truth.tolist())
    np.testing.assert_allclose(law.at(xs), truth, atol=2e-3)
    assert law.exponent == pytest.approx(exponent, rel=0.05)
    assert not law.is_at_an_end


def test_a_loss_that_falls_at_once_and_then_no_more_is_said_to_lie_at_an_end():
    assert laws.fit_power_law([1.0, 10.0, 100.0, 1000.0], [1.0, 0.2, 0.1999, 0.1998]).is_at_an_end


def test_too_few_places_are_refused():
    with pytest.raises(ValueError, match="4 places or more"):
        laws.fit_power_law([1.0, 1.0, 2.0, 3.0], [0.1, 0.1, 0.2, 0.2])
    with pytest.raises(ValueError, match="two places or more"):
        laws.fit_log_line([1.0, 1.0], [], sized().asked[0])


def test_the_page_shows_a_part_for_each_axis_that_enough_arms_lie_along(tmp_path):
    found = {part.title: part for part in laws.supplement(sized(), tmp_path)}
    assert list(found) == ["Along parameters", "Along operations"]  # all saw as many samples
    part = found["Along parameters"]
    said = "\n".join(part.sentences)
    assert "Ten times more parameters: camera motion better, top_1 by +" in said
    assert "Ten times more parameters: camera pose worse, pose_epe by +" in said
    assert "held-out loss follows" in said
    assert [len(line) for line in part.grids[0].lines] == [2 + len(SIZES)] * 2
    assert part.pictures[0].read_bytes().startswith(b"\x89PNG")


def test_arms_that_lack_a_seed_are_fitted_by_those_that_all_have(tmp_path):
    found = sized()
    del found.costs["at 0.1", 2]
    parts = laws.supplement(found, tmp_path)
    assert ["held-out loss follows" in "\n".join(part.sentences) for part in parts] == [True, True]


def test_arms_that_share_nothing_yet_have_no_law(tmp_path):
    found = sized()
    found.costs = {
        (name, seed): cost for (name, seed), cost in found.costs.items() if (name == "at 0.1") == (seed == 0)
    }
    found.asked = []
    assert laws.supplement(found, tmp_path) == []
