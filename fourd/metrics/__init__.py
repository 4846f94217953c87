"""Scores of predictions: depth, point tracks, box tracks, camera poses, classes.

Pure functions, batched over clips. Each gives per clip a score and the weight that the clip has in a
weighted mean; a clip where a metric is not defined has weight 0 and score 0. What is not `valid` is
never looked at, so it may hold anything, NaN included. A prediction that is NaN where it counts gives
a NaN score, or counts as wrong: it is never dropped.

Sums are taken in float64, so a score does not depend on how many pixels a clip has.
"""

from fourd.metrics.boxes import BOX_TRACKS, box_tracks
from fourd.metrics.classes import TOP_1, TOP_5, top_k, top_k_metric
from fourd.metrics.depths import DEPTH, Alignment, depth
from fourd.metrics.points import (
    POINT_DISTANCE,
    TAP_VID,
    THRESHOLDS_PX,
    QueryMode,
    point_distance,
    tap_vid,
    to_raster,
)
from fourd.metrics.poses import (
    CAMERA_POSE,
    AucConvention,
    area_under_recall,
    camera_pose,
    pose_auc,
    pose_auc_metric,
)
from fourd.metrics.representation import feature_rank, feature_std, nearest_neighbour_accuracy
from fourd.metrics.trajectories import TRAJECTORY, TrajectoryAlignment, trajectory

__all__ = [
    "BOX_TRACKS",
    "CAMERA_POSE",
    "DEPTH",
    "POINT_DISTANCE",
    "TAP_VID",
    "THRESHOLDS_PX",
    "TOP_1",
    "TOP_5",
    "TRAJECTORY",
    "Alignment",
    "AucConvention",
    "QueryMode",
    "TrajectoryAlignment",
    "area_under_recall",
    "box_tracks",
    "camera_pose",
    "depth",
    "feature_rank",
    "feature_std",
    "nearest_neighbour_accuracy",
    "point_distance",
    "pose_auc",
    "pose_auc_metric",
    "tap_vid",
    "to_raster",
    "top_k",
    "top_k_metric",
    "trajectory",
]
