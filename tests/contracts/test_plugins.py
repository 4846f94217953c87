"""Hold every plug-in of fourd to its contract. A new file in a family's package is found by itself."""

from __future__ import annotations

import importlib

import pytest

from tests.contracts import backbone, dataset, objective, task
from tests.contracts.discovery import find_plugins

FAMILIES = {
    "fourd.backbones": backbone.CHECKS,
    "fourd.objectives": objective.CHECKS,
    "fourd.tasks": task.CHECKS,
    "fourd.datasets": dataset.CHECKS,
}


@pytest.mark.parametrize("package", FAMILIES)
def test_family_has_plugins(package):
    assert find_plugins(package), f"{package} holds no plug-in: its contract was held against nothing"


@pytest.mark.parametrize(
    ("module", "check"),
    [
        pytest.param(module, check, id=f"{module.removeprefix('fourd.')}-{check.__name__}")
        for package, checks in FAMILIES.items()
        for module in find_plugins(package)
        for check in checks
    ],
)
def test_plugin_keeps_its_contract(module, check):
    check(importlib.import_module(module))
