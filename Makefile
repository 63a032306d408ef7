# Two commands set everything up on a fresh machine with Python 3.11 or newer:
#   make demo   environment, install, brighten two sample pictures
#   make test   environment, install with test tools, run the tests (make test-slow: those that take long)
# and
#   make weights LOL=DIR  trains the default weights anew from LOL's training pairs, in HOURS hours
#                       (SPLIT=none: from all of them, without validation)
#   make test-batch tests llflow batch with Ray and Parquet, which it installs, killed at random
#   make docs       builds the site into site/, make docs-serve shows it while you write
#   make mutants    plants defects in flowkit's mathematics and says how many the checks notice (hours)
#   make bench      measures what a CPU can, in under 15 minutes on two cores
#   make table      trains flowkit's flows beside other libraries' (hours; goes on where it stopped)
#   make bench-gpu  tests the kernels on a GPU and measures what needs one
VENV ?= .venv
PYTHON ?= python3
HOURS ?= 1.3
RUN ?= runs/tiny
SPLIT ?= tiny440
BIN = $(VENV)/bin

BENCHMARKS = lines flow_step samples memory enhance enhance_precision training_step training_throughput cost
GPU_BENCHMARKS = coupling linear training_step

# $(1): the benchmarks, $(2): their options. One that fails doesn't stop the others.
define run_benchmarks
for name in $(1); do \
	echo; echo "== $$name"; $(BIN)/python benchmarks/$$name.py $(2) || failed="$$failed $$name"; \
done; \
echo; $(BIN)/python benchmarks/report.py || failed="$$failed report"; \
test -z "$$failed" || { echo "failed:$$failed"; exit 1; }
endef

.PHONY: demo test test-slow test-batch mutants check docs docs-serve weights bench table bench-gpu clean

demo: $(VENV)/.installed
	$(BIN)/llflow enhance examples/rocket.jpg examples/coffee_dark.jpg -o enhanced/ --overwrite

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m "not slow" tests

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m slow tests

test-batch: $(VENV)/.installed-batch
	$(BIN)/python -m pytest -q tests/llflow/test_batch.py tests/llflow/test_batch_killed.py

mutants: $(VENV)/.installed-dev
	$(BIN)/python tests/mutants.py $(FILES)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

weights:
	@test -n "$(LOL)" || { echo "expected LOL's training pairs: make weights LOL=LOL/our485"; exit 1; }
	@$(MAKE) --no-print-directory $(VENV)/.installed
	$(BIN)/llflow train --data "$(LOL)" --recipe tiny --split $(SPLIT) --hours $(HOURS) \
		--validate-every 2000 --out "$(RUN)"

bench: $(VENV)/.installed-benchmarks
	@failed=; $(call run_benchmarks,$(BENCHMARKS),)

table: $(VENV)/.installed-benchmarks
	$(BIN)/python benchmarks/table/run.py
	$(BIN)/python benchmarks/table/page.py

bench-gpu: $(VENV)/.installed-dev $(VENV)/.installed-benchmarks
	@failed=; $(BIN)/python -m pytest -q tests/flowkit/test_kernels.py || failed=" tests"; \
	$(call run_benchmarks,$(GPU_BENCHMARKS),--device cuda)

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/.installed-batch: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[testing,batch,ray]'
	touch $@

$(VENV)/.installed-benchmarks: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[benchmarks]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) enhanced site
