"""Keep the direction of imports: the rule holds on the tree, and the linter notices when it is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as main; main()"


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the package and the contract that stand in `root`."""
    command = [sys.executable, "-c", LINT_IMPORTS, "--no-cache", "--no-logo"]
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the package and its contract, to be broken."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "fourd", tmp_path / "fourd", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def add(path: Path, line: str) -> None:
    """Append a line to a module, which is made where the plan's module is not written yet."""
    with path.open("a") as file:
        file.write(f"\n{line}\n")


def test_the_tree_keeps_its_layers():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_model_that_imports_the_trainer_is_refused(copy):
    add(copy / "fourd/trainer/__init__.py", "")
    add(copy / "fourd/layers.py", "import fourd.trainer")
    result = lint_imports(copy)
    assert result.returncode != 0
    assert "The layers of fourd BROKEN" in result.stdout
    assert "fourd.layers -> fourd.trainer" in result.stdout


def test_a_module_in_no_layer_is_refused(copy):
    add(copy / "fourd/helpers.py", "")
    result = lint_imports(copy)
    assert result.returncode != 0
    assert "helpers" in result.stdout


def test_every_folder_is_seen_by_the_linter():
    folders = {path.parent for path in (ROOT / "fourd").rglob("*.py")}
    blind = [folder for folder in folders if not (folder / "__init__.py").exists()]
    assert not blind, f"without __init__.py the linter does not look into {blind}"
