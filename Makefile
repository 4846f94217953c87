# Everything starts from here. `make demo` and `make test` set up what they need by themselves, once.

PYTHON      ?= python3
# Processes that pytest runs in; each computes on one thread, so that two cores are not asked for four.
JOBS        ?= 2
# How many runs `make faults` kills.
KILLS       ?= 50
# What `make demo` passes on, as in: make demo ARGS="--help"
ARGS        ?=
# Where torch is installed from on a machine without a GPU; empty means pip's own index. On Linux PyPI's plain torch is
# the CUDA build (gigabytes that a CPU cannot use); PyTorch's own index of CPU builds is the lighter choice:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
# which runs `pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu`.
TORCH_INDEX ?=

VENV      := .venv
PY        := $(VENV)/bin/python
STAMP     := $(VENV)/.installed
TORCH_PIN := $(VENV)/torch-pin.txt

# Exits 0 where torch can be imported and is new enough.
TORCH_IS_USABLE := -c 'import sys, torch; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10))'
# By module, not by script: a tool that the outer Python already had leaves no script in the new environment.
LINT_IMPORTS    := -c 'from importlinter.cli import lint_imports_command as main; main()'

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults plan-matrix lint types imports format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with all that fourd needs (the other targets do it by themselves)

demo: $(STAMP) ## pretrain, probe and report on the embedded world; ARGS are passed on
	$(VENV)/bin/fourd demo $(ARGS)

test: lint types imports ## lint, types, layers, then the test suite on JOBS processes
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal

faults: $(STAMP) ## kill fifty training runs at random moments, and compare them with undisturbed ones (minutes)
	OMP_NUM_THREADS=1 $(PY) -m tests.faults.kills runs/faults $(KILLS)
	FOURD_KILLS=10 OMP_NUM_THREADS=1 $(PY) -m pytest -q tests/benchmark/test_matrix.py -k killed_at_random

plan-matrix: $(STAMP) ## step every size on 1 to 256 GPUs without numbers (minutes, once)
	OMP_NUM_THREADS=1 $(PY) -m fourd plan matrix --out results/plan_matrix.parquet

lint: $(STAMP) ## style of the code and its formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(STAMP) ## type annotations
	$(PY) -m mypy

imports: $(STAMP) ## who may import whom
	$(PY) $(LINT_IMPORTS) --no-logo

format: $(STAMP) ## rewrite the code in the house format, and mend what can be mended by itself
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove caches and build products; .venv and runs stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find fourd tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and is then pinned to the build that is there, so that pip never replaces it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fourd needs Python >= 3.11; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
		echo "Name a newer one, as in: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(PY) || { $(make_venv); }
	@$(PY) $(TORCH_IS_USABLE) 2>/dev/null || { $(install_torch); }
	@$(PY) -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > $(TORCH_PIN)
	$(PY) -m pip install -c $(TORCH_PIN) -e '.[dev]'
	@touch $@

# A usable torch of the outer Python is taken as it is. The .pth line makes it visible also where the outer Python is
# itself a virtual environment, which --system-site-packages does not see.
define make_venv
set -eu; outer=; \
if $(PYTHON) $(TORCH_IS_USABLE) 2>/dev/null; then \
	outer=$$($(PYTHON) -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])'); \
	echo "Taking the torch of $(PYTHON), in $$outer"; \
fi; \
$(PYTHON) -m venv $${outer:+--system-site-packages} $(VENV) || { \
	rm -rf $(VENV); \
	echo "'$(PYTHON) -m venv' failed: its venv module is missing or broken." >&2; \
	echo "On Debian and Ubuntu it is a package of its own: apt-get install python3-venv" >&2; exit 1; }; \
if [ -n "$$outer" ]; then \
	echo "$$outer" > "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer-torch.pth"; \
fi
endef

# With a GPU: the newest CUDA build. Without: the version in constraints.txt.
define install_torch
if nvidia-smi >/dev/null 2>&1; then \
	$(PY) -m pip install 'torch>=2.10'; \
else \
	$(PY) -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch; \
fi
endef
