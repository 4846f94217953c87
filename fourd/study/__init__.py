"""A study: arms that differ by what is asked about, pretrained, measured and compared; a page says what came out.

What a study is stands in `config`; which pretrainings it takes in `runs`, what they cost in `costs`; how arms are
measured in `measuring`; what may be said of the figures in `intervals` and `sentences`; all of it is done by `work`.
"""

from fourd.study.config import Arm, Best, Claim, Pick, Plot, Study, Trend, weights_of
from fourd.study.costs import flop_of_run, flop_of_step, steps_for
from fourd.study.work import Outcome, run_study

__all__ = [
    "Arm",
    "Best",
    "Claim",
    "Outcome",
    "Pick",
    "Plot",
    "Study",
    "Trend",
    "flop_of_run",
    "flop_of_step",
    "run_study",
    "steps_for",
    "weights_of",
]
