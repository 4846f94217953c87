"""Names of metrics and of their conventions."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest
import torch

from fourd import metrics


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Switch the checks of signatures off, as they are outside of tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("no_type_checks")
def test_an_unknown_convention_is_an_error_that_names_the_known_ones():
    image, flags = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    poses = torch.eye(4).expand(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"alignment is 'affine'; expected one of .*scale_shift"):
        metrics.depth(image, image, image > 0, alignment="affine")
    with pytest.raises(ValueError, match=r"query_mode is 'last'; expected one of .*strided"):
        metrics.tap_vid(image, flags, image, flags, torch.zeros(1, 1), query_mode="last")
    with pytest.raises(ValueError, match=r"convention is 'evo'; expected one of .*kauldron"):
        metrics.pose_auc(poses, poses, 30, "evo")
    with pytest.raises(ValueError, match=r"alignment is 'sim2'; expected one of .*sim3"):
        metrics.trajectory(poses, poses, "sim2")


def test_no_two_metrics_share_a_name():
    families = [*metrics.DEPTH.values(), *metrics.TAP_VID.values(), *metrics.TRAJECTORY.values()]
    families += [(metrics.POINT_DISTANCE,), metrics.BOX_TRACKS, metrics.CAMERA_POSE, (metrics.TOP_1, metrics.TOP_5)]
    conventions = ("vggt", "kauldron", "superglue")
    families += [tuple(metrics.pose_auc_metric(k, name) for k in (5, 30) for name in conventions)]
    names = [metric.name for family in families for metric in family]
    assert len(names) == len(set(names)) > 60
