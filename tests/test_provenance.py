"""A config is described in full and rebuilt as it was; a missing part is named."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from fourd import provenance
from fourd.backbones import video_vit
from fourd.provenance import describe, environment, find, rebuild, write_json
from fourd.recipes import demo, pretrain, probe
from tests.small_runs import LineConfig, run

CONFIGS = {
    "demo": demo.demo,
    "toy_frozen": probe.toy_frozen,
    "toy_finetuned": probe.toy_finetuned,
    "tiny": probe.tiny,
    "toy_world": pretrain.toy_world,
    **{
        name: lambda name=name: getattr(pretrain, name)("films")
        for name in ("laptop", "small", "base", "large")
    },
    "small_run": run,
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_survives_json(name):
    config = CONFIGS[name]()
    assert rebuild(json.loads(json.dumps(describe(config)))) == config


def test_every_part_carries_its_type():
    described = describe(run())
    assert described["type"] == "fourd.trainer.config:RunConfig"
    assert described["objective"] == {
        "type": "tests.small_runs:LineConfig",
        "poisoned": [],
        "exploding": [],
        "poisoned_times": 1000,
        "freeze": False,
    }
    assert rebuild(described["objective"]) == LineConfig()


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="cannot describe a PosixPath"):
        describe((1, Path("a")))


def test_a_part_is_found_by_its_path():
    assert find("fourd.backbones.video_vit:small") is video_vit.small


@pytest.mark.parametrize(
    ("dotted", "message"),
    [
        ("fourd.recipes.pretrain", "is not a dotted path; expected package.module:name"),
        ("fourd.recipes.pretrain:", "is not a dotted path"),
        ("fourd.recipes.nothing:base", "no module 'fourd.recipes.nothing'"),
        ("fourd.recipes.pretrain:bose", "has no 'bose'; it has .*base.*laptop"),
    ],
)
def test_a_missing_part_is_named(dotted, message):
    with pytest.raises(ValueError, match=message):
        find(dotted)


def test_environment_names_the_decoders_and_their_libraries():
    import av

    found = environment()["decoders"]
    assert found["av"] == av.__version__
    assert found["libavcodec"] == ".".join(map(str, av.library_versions["libavcodec"]))
    assert ("torchcodec" in found) == (importlib.util.find_spec("torchcodec") is not None)


def test_environment_can_be_written_and_names_the_code():
    described = environment()
    json.dumps(described)
    assert {"fourd", "torch", "python", "git", "command", "num_threads"} <= described.keys()
    assert described["num_threads"] == 1


def test_git_state_knows_the_commit_and_whether_it_was_changed(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        named = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *named, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "package").mkdir()
    code = tmp_path / "package" / "__init__.py"
    code.write_text("a = 1\n")
    monkeypatch.setattr(provenance.fourd, "__file__", str(code))
    assert provenance.git_state() == {"commit": None, "changed": None}
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert provenance.git_state() == {"commit": git("rev-parse", "HEAD"), "changed": False}
    code.write_text("a = 2\n")
    assert provenance.git_state()["changed"] is True


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_only_configs_are_rebuilt(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(ValueError, match="no config"):
        provenance.rebuild({"type": "os:mkdir", "path": str(target)})
    assert not target.exists()
    with pytest.raises(ValueError, match="not a dotted path"):
        provenance.rebuild({"path": "x"})
