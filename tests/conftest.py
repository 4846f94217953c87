"""Set up every test: no home is touched, shapes are checked, one thread computes, random numbers are seeded."""

import os
import tempfile

import jaxtyping
import pytest

# Before anything imports fourd: what it keeps in the user's cache lies in a folder of its own, one per worker,
# so that a tiny toy world is made once and then found there by every test.
_HOME = tempfile.TemporaryDirectory(prefix="fourd-tests-home-", ignore_cleanup_errors=True)
os.environ["HOME"] = os.environ["USERPROFILE"] = _HOME.name
for _name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
    os.environ.pop(_name, None)

# From here on each function of the package checks the shapes in its signature.
jaxtyping.install_import_hook("fourd", "beartype.beartype")
# The checks are plain functions outside of test files; their asserts shall explain themselves all the same.
pytest.register_assert_rewrite("tests.contracts")

import hypothesis  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

# The same examples on every run, and no deadline: a shared machine may stall for a second.
hypothesis.settings.register_profile("fourd", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("fourd")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Make torch's global random numbers the same whatever ran before, in whichever process."""
    torch.manual_seed(0)
