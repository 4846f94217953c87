"""The command line as a user meets it: real processes, plain errors, a run from a folder of films."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fourd.cli import COMMANDS
from fourd.cli.bench import SUBJECTS as BENCH_SUBJECTS
from fourd.cli.data import COMMANDS as DATA_COMMANDS
from fourd.provenance import find
from tests.films import truncate, write_film, write_sound

ROOT = Path(__file__).parents[1]
WITH_OPTIONS = [
    *(name for name in COMMANDS if name not in ("data", "bench")),
    *(f"data {name}" for name in DATA_COMMANDS),
    *(f"bench {name}" for name in BENCH_SUBJECTS),
]

RECIPES = '''
"""Runs of a second, for tests of the command line."""

from fourd.backbones import video_vit
from fourd.datasets.video_files import VideoFilesConfig, index_in_cache
from fourd.objectives.simple_mae import SimpleMAEConfig
from fourd.optim import OptimConfig
from fourd.trainer import RunConfig
from tests.small_study import study


def films(data: str) -> RunConfig:
    """Pretrain on films."""
    index = index_in_cache(data)
    clips = VideoFilesConfig(data, num_frames=4, size=(32, 32), index_path=index, part="train")
    held_out = VideoFilesConfig(data, num_frames=4, size=(32, 32), index_path=index, part="held_out")
    objective = SimpleMAEConfig(video_vit.tiny(), mask_ratio=0.75, decoder_patch=(4, 8, 8))
    return RunConfig(objective, clips, held_out, OptimConfig(warmup_steps=2), 2, 2, save_every=2, device="cpu")


def world() -> RunConfig:
    """Pretrain on a tiny world."""
    return study().pretraining


def number() -> int:
    """Return what is no config."""
    return 3
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a module of recipes, as a user's own package would hold."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "small_recipes.py").write_text(RECIPES)
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with five films and four files that are none."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(5):
        write_film(folder / f"film-{number}.mp4", 20)
    truncate(folder / "film-0.mp4", folder / "cut.mp4", share=0.0)
    (folder / "empty.mp4").touch()
    write_sound(folder / "sound.mp4")
    (folder / "notes.txt").write_text("not a film")
    return folder


Result = subprocess.CompletedProcess[str]


def start(command: list[str], package: Path) -> Result:
    """Run a command that can import this tree and the package of recipes."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{package}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment.pop("FOURD_DEBUG", None)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def fourd(*arguments: object, package: Path) -> Result:
    """Run the command line in a process of its own, from the start."""
    return start([sys.executable, "-m", "fourd", *map(str, arguments)], package)


FORK_FOR_EACH = """
import json, os, runpy, sys
# what takes seconds to import is imported once
import fourd.cli.demo, fourd.cli.pretrain, fourd.cli.probe, fourd.cli.report, fourd.recipes.demo, fourd.recipes.pretrain
folder, calls = sys.argv[1], json.load(open(sys.argv[1] + "/calls.json"))
for number, arguments in enumerate(calls):
    child = os.fork()
    if not child:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv = ["fourd", *arguments]
        code = 0
        try:
            runpy.run_module("fourd", run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else bool(stop.code)
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # at once: taking torch down takes a second
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    open(f"{folder}/{number}.code", "w").write(str(code))
"""


def fourd_calls(folder: Path, calls: dict[str, list[object]], package: Path) -> dict[str, Result]:
    """Run the command line once for each call, each in a process of its own that need not import torch again."""
    folder.mkdir()
    (folder / "calls.json").write_text(json.dumps([[str(word) for word in words] for words in calls.values()]))
    driver = start([sys.executable, "-c", FORK_FOR_EACH, str(folder)], package)
    assert driver.returncode == 0, driver.stderr

    def read(number: int, name: str) -> str:
        return (folder / f"{number}.{name}").read_text()

    return {
        name: subprocess.CompletedProcess(words, int(read(n, "code")), read(n, "out"), read(n, "err"))
        for n, (name, words) in enumerate(calls.items())
    }


def assert_plain_error(result: subprocess.CompletedProcess[str], message: str) -> None:
    """Expect one line that says what is wrong, and no traceback."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr, result.stderr
    last = [line for line in result.stderr.splitlines() if line.startswith("fourd ")]
    assert len(last) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == last[0], "the error is not the last line, or has several"
    assert message in last[0], last[0]


# ----------------------------------------------------------------------------- help and errors


MISTAKES = {
    "no data": "say where they are with --data DIR",
    "wrong path": "there is no",
    "empty folder": "holds no file",
    "only unreadable": "no readable film",
    "data is a file": "is a file",
    "needless data": "takes no --data",
    "no such recipe": "has no 'nothing'; it has",
    "no such module": "no module 'my_lab'",
    "no recipe": "returned a int; expected a fourd.trainer.RunConfig",
    "wrong device": "device 'gpu' cannot be used",
    "no such weights": "no.safetensors",
    "out is a file": "is a file: name a folder",
    "no steps": "RunConfig.steps is 0: expected 1 or more",
    "no probe": "SimpleMAEConfig describes; fourd probe expects a ProbeConfig",
    "no study": "no such file; expected the folder of a study",
}
"""What is told to whom makes a mistake."""


def mistakes(folder: Path, films: Path) -> dict[str, list[object]]:
    """Make the calls of the mistakes."""
    for name in ("empty", "unreadable"):
        (folder / name).mkdir()
    shutil.copy(films / "notes.txt", folder / "unreadable")
    shutil.copy(films / "empty.mp4", folder / "unreadable")
    (folder / "file").touch()
    own, world = ["pretrain", "small_recipes:films"], ["pretrain", "small_recipes:world"]
    out = ["--out", folder / "run"]
    return {
        "no data": ["pretrain", *out],
        "wrong path": [*own, "--data", folder / "nowhere", *out],
        "empty folder": [*own, "--data", folder / "empty", *out],
        "only unreadable": [*own, "--data", folder / "unreadable", *out],
        "data is a file": [*own, "--data", folder / "file", *out],
        "needless data": [*world, "--data", folder, *out],
        "no such recipe": ["pretrain", "small_recipes:nothing", *out],
        "no such module": ["pretrain", "my_lab:base", *out],
        "no recipe": ["pretrain", "small_recipes:number", *out],
        "wrong device": [*world, "--device", "gpu", *out],
        "no such weights": [*world, "--init", folder / "no.safetensors", "--out", folder / "other"],
        "out is a file": [*world, "--out", folder / "file"],
        "no steps": [*world, "--steps", 0, *out],
        "no probe": ["probe", "small_recipes:films", "--data", films, *out],
        "no study": ["report", "--out", folder / "nowhere"],
    }


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory, films: Path, package: Path) -> dict[str, Result]:
    """Call everything that ends soon."""
    folder = tmp_path_factory.mktemp("calls")
    calls: dict[str, list[object]] = {f"{command} --help": [*command.split(), "--help"] for command in WITH_OPTIONS}
    calls["nothing"], calls["unknown"] = [], ["pretain"]
    calls["typo"] = ["pretrain", "small_recipes:world", "--out", folder / "run", "--stepz", 3]
    found = fourd_calls(folder / "results", {**calls, **mistakes(folder, films)}, package)
    assert not (folder / "run").exists(), "a mistaken call has claimed a folder"
    return found


def test_help_lists_every_command(called, package):
    result = fourd("--help", package=package)
    assert result.returncode == 0
    for name, does in COMMANDS.items():
        assert name in result.stdout
        assert does in result.stdout
    assert called["nothing"].stdout == result.stdout


def test_a_commands_help_comes_from_a_cold_start_too(called, package):
    result = fourd("pretrain", "--help", package=package)
    assert (result.returncode, result.stdout) == (0, called["pretrain --help"].stdout)


@pytest.mark.parametrize("command", WITH_OPTIONS)
def test_each_command_has_help(called, command):
    result = called[f"{command} --help"]
    assert result.returncode == 0, result.stderr
    assert f"usage: fourd {command}" in result.stdout
    assert ("--apply" if command == "data check" else "--out") in result.stdout


def test_an_unknown_command_is_an_error_that_lists_the_known(called):
    result = called["unknown"]
    assert result.returncode != 0
    assert "no command 'pretain'" in result.stderr
    assert all(name in result.stderr for name in COMMANDS)


def test_a_typo_in_an_option_is_an_error(called):
    result = called["typo"]
    assert result.returncode != 0
    assert "--stepz" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_in_a_line(called, case):
    assert_plain_error(called[case], MISTAKES[case])


# ----------------------------------------------------------------------------- a run


def test_films_are_pretrained_on_and_the_same_command_goes_on(package, films, tmp_path):
    out = tmp_path / "run"
    command = ["pretrain", "small_recipes:films", "--data", films, "--out", out, "--steps", 4, "--seed", 0]
    first = fourd(*command, package=package)
    assert first.returncode == 0, first.stderr
    for name in ("config.json", "metrics.jsonl", "ledger.jsonl", "reconstruction.png", "final/model.safetensors"):
        assert (out / name).stat().st_size, name
    assert_lists_the_four(out)
    assert "not used: 4 files" in first.stdout
    metrics = (out / "metrics.jsonl").read_text()
    records = [json.loads(line) for line in metrics.splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert "held_out_loss" in records[-1]
    assert json.loads((out / "config.json").read_text())["steps"] == 4
    weights = (out / "final/model.safetensors").read_bytes()

    calls = {"again": command, "other": [*command, "--batch-size", 1]}
    found = fourd_calls(tmp_path / "results", calls, package)
    second = found["again"]
    assert second.returncode == 0, second.stderr
    assert "after step 4" in second.stderr
    assert (out / "metrics.jsonl").read_text() == metrics
    assert (out / "final/model.safetensors").read_bytes() == weights
    assert_lists_the_four(out)
    assert_plain_error(found["other"], "batch_size was")


def assert_lists_the_four(out: Path) -> None:
    with (out / "unreadable.csv").open(newline="") as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons.keys() == {"cut.mp4", "empty.mp4", "sound.mp4", "notes.txt"}
    assert all(reasons.values())
    assert reasons["notes.txt"] == "not a video file"


# ----------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", ["laptop", "small", "base", "large", "toy_world"])
def test_a_pretraining_recipe_describes_a_model(name):
    function = find(f"fourd.recipes.pretrain:{name}")
    config = function() if name == "toy_world" else function("films")
    with torch.device("meta"):
        objective = config.objective.build()
    assert all(parameter.is_meta for parameter in objective.parameters())
    assert objective.backbone.config.num_frames == config.data.num_frames
    if name != "toy_world":
        assert tuple(objective.backbone.config.size) == tuple(config.data.size)
        assert (config.data.part, config.held_out.part) == ("train", "held_out")


@pytest.mark.parametrize("name", ["toy_frozen", "toy_finetuned", "tiny"])
def test_a_probing_recipe_describes_a_probe(name):
    config = find(f"fourd.recipes.probe:{name}")()
    with torch.device("meta"):
        objective = config.objective.build()
    trained = {part.partition(".")[0] for part, parameter in objective.named_parameters() if parameter.requires_grad}
    assert trained == ({"readouts"} if name == "toy_frozen" else {"readouts", "backbone"})
    assert [task.name for task in objective.tasks] == list(config.data.tasks)
    assert config.held_out.tasks == config.data.tasks
