"""Rows are complete, controls know nothing of the test clips, pictures are of the clips that they name."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.compute as pc
import pytest
import torch

from fourd import evaluate, loader, results
from fourd.evaluate import Subject, draw_gallery, evaluate_controls, join
from fourd.objectives.probe import Probe, ProbeConfig
from tests.small_study import study, tasks, world

STUDY = study()
SUBJECT = Subject("small_v1", "video_vit", "random", 3)


@pytest.fixture(scope="module")
def probe() -> Probe:
    config = ProbeConfig(STUDY.backbone, STUDY.tasks, STUDY.clip, STUDY.readouts, STUDY.depths)
    objective = config.build()
    objective.init_weights(torch.Generator().manual_seed(0))
    return objective


@pytest.fixture(scope="module")
def test_clips():
    return STUDY.test.build()


@pytest.fixture(scope="module")
def rows(probe, test_clips):
    return evaluate.evaluate(probe, test_clips, SUBJECT, "fp32")


def cells(table) -> set[tuple]:
    return {tuple(row[name] for name in ("clip", "entry", "readout", "depth", "metric")) for row in table.to_pylist()}


def test_there_is_a_row_for_every_clip_task_readout_depth_and_metric(rows):
    expected = {
        (f"toy_world/0/{clip}", task.name, readout, depth, metric.name)
        for clip in range(10, 15)
        for task in (config.build() for config in tasks())
        for readout in STUDY.readouts
        for depth in STUDY.depths
        for metric in task.metrics
    }
    assert cells(rows.table) == expected
    assert rows.table.num_rows == len(expected)
    assert set(rows.metrics) == {row[4] for row in expected}
    assert {(row["backbone"], row["weights"], row["seed"], row["suite"]) for row in rows.table.to_pylist()} == {
        ("video_vit", "random", 3, "small_v1")
    }


def test_a_row_is_the_score_of_its_own_readout(probe, test_clips, rows):
    batch = next(loader.in_order(test_clips, 5))
    with torch.no_grad():
        answers = probe.eval().predict(batch)
    for head, answer in zip(probe.heads, answers, strict=True):
        task, sample = probe.tasks[head.task], batch.tasks[head.task]
        score = task.scores(answer, sample.query, sample.target)[0]
        chosen = results.select(
            rows.table,
            entry=task.name,
            readout=head.kind,
            depth=probe.config.depths[head.depth],
            metric=score.metric.name,
        )
        assert chosen["clip"].to_pylist() == list(batch.key)
        assert chosen["group"].to_pylist() == list(batch.group)
        torch.testing.assert_close(torch.tensor(chosen["score"].to_pylist()), score.score.float())
        torch.testing.assert_close(torch.tensor(chosen["weight"].to_pylist()), score.weight.float())


def test_scores_do_not_depend_on_the_batch(probe, test_clips, rows, monkeypatch):
    monkeypatch.setattr(evaluate, "_BATCH_SIZE", 2)
    again = evaluate.evaluate(probe, test_clips, SUBJECT, "fp32").table
    order = [("entry", "ascending"), ("readout", "ascending"), ("depth", "ascending"), ("metric", "ascending")]
    order.append(("clip", "ascending"))
    one, other = (torch.tensor(table.sort_by(order)["score"].to_pylist()) for table in (rows.table, again))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_evaluation_drops_nothing_out(test_clips):
    drops = tuple(replace(task, size=replace(task.size, dropout=0.9)) for task in STUDY.tasks)
    objective = ProbeConfig(STUDY.backbone, drops, STUDY.clip).build()
    objective.init_weights(torch.Generator().manual_seed(0))
    objective.train()
    one, other = (evaluate.evaluate(objective, test_clips, SUBJECT, "fp32").table for _ in range(2))
    assert one["score"].equals(other["score"])


# ----------------------------------------------------------------------------- controls


def test_controls_are_complete_and_named():
    table, _ = evaluate_controls(
        [task.build() for task in tasks()], STUDY.train.build(), STUDY.test.build(), "small_v1"
    )
    found = {(row["entry"], row["backbone"]) for row in table.to_pylist()}
    assert found == {
        ("box_tracking", "control:nothing_moves"),
        ("box_tracking", "control:mean_answer"),
        ("camera_pose", "control:nothing_moves"),
        ("camera_pose", "control:mean_answer"),
        ("camera_motion", "control:mean_answer"),
    }
    assert {row["clip"] for row in table.to_pylist()} == {f"toy_world/0/{clip}" for clip in range(10, 15)}
    assert pc.all(pc.is_null(table["depth"])).as_py()
    assert {(row["readout"], row["weights"]) for row in table.to_pylist()} == {("none", "none")}


def test_controls_are_fitted_to_training_samples_alone(monkeypatch):
    task = tasks()[1].build()
    train, test = world(0, 6, ("camera_pose",)).build(), world(10, 5, ("camera_pose",)).build()
    seen, fit = [], task.fit_controls
    monkeypatch.setattr(task, "fit_controls", lambda samples: (seen.append(samples), fit(samples))[1])
    evaluate_controls([task], train, test, "s")
    (samples,) = seen
    poses = torch.cat([sample.target.world_from_camera for sample in samples])
    expected = torch.cat([batch.tasks[0].target.world_from_camera for batch in loader.in_order(train, 6)])
    assert torch.equal(poses, expected)


# ----------------------------------------------------------------------------- pictures


def test_the_gallery_shows_a_good_a_usual_and_a_bad_clip(probe, test_clips, rows, tmp_path):
    draw_gallery(probe, test_clips, rows, SUBJECT, tmp_path, "fp32", {"camera_pose": "rotation_error_deg"})
    entries = json.loads((tmp_path / "pictures.json").read_text())
    scores = {(row["entry"], row["metric"], row["readout"], row["depth"], row["clip"]): row["score"]
              for row in rows.table.to_pylist()}  # fmt: skip
    assert {(entry["entry"], entry["kind"]) for entry in entries} == {
        (task.name, kind) for task in tasks() for kind in ("success", "typical", "failure")
    }
    assert {entry["readout"] for entry in entries} == {"attention"}
    for entry in entries:
        assert (tmp_path / entry["film"]).stat().st_size
        assert (tmp_path / entry["strip"]).stat().st_size
    for task in (config.build() for config in tasks()):
        metric = rows.metrics["rotation_error_deg" if task.name == "camera_pose" else task.metrics[0].name]
        for depth in STUDY.depths:
            own = [entry for entry in entries if entry["entry"] == task.name and f"_{depth:g}.png" in entry["strip"]]
            shown = {e["kind"]: scores[task.name, metric.name, "attention", depth, e["clip"]] for e in own}
            ranked = [shown["failure"], shown["typical"], shown["success"]]
            assert ranked == sorted(ranked, reverse=not metric.higher_is_better)
            for entry in own:
                assert f"{shown[entry['kind']]:.3g}" in entry["caption"]


def test_a_task_without_a_defined_score_has_no_pictures(probe, test_clips, rows, tmp_path):
    table = rows.table.set_column(
        rows.table.schema.get_field_index("weight"), "weight", pc.multiply(rows.table["weight"], 0.0)
    )
    draw_gallery(
        probe, test_clips, rows._replace(table=table), SUBJECT, tmp_path, "fp32", {"camera_pose": "rotation_error_deg"}
    )
    assert json.loads((tmp_path / "pictures.json").read_text()) == []


def test_rows_are_joined(rows):
    both = join([rows, evaluate_controls([tasks()[1].build()], world(0, 6, ("camera_pose",)).build(),
                                         world(10, 5, ("camera_pose",)).build(), "small_v1")])  # fmt: skip
    assert both.table.num_rows == rows.table.num_rows + 2 * 5 * 4
    assert both.metrics.keys() == rows.metrics.keys()
