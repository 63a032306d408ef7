# Two commands set everything up on a fresh machine with Python 3.11 or newer:
#   make demo   environment, install, brighten two sample pictures
#   make test   environment, install with test tools, run the tests
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(BIN)/llflow enhance examples/rocket.jpg examples/coffee_dark.jpg enhanced/ --overwrite

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q tests

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) enhanced
