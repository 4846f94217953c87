"""What `import fourd` offers is there, and costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fourd


@pytest.mark.parametrize("name", sorted(fourd._HOMES))
def test_every_name_leads_to_something_to_call(name):
    assert callable(getattr(fourd, name))


def test_the_published_encoders_can_be_listed():
    assert {"4ds-b-dist-e", "4ds-e", "dinov2-base"} <= set(fourd.names())


def test_an_unknown_name_is_told_with_those_that_are_there():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'; it has load, "):
        _ = fourd.nonsense


def test_importing_it_imports_no_torch():
    code = "import sys, fourd; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
