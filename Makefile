# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo

.PHONY: help demo test check format bench clean

help:
	@echo "make demo    install, then ingest, annotate, train, evaluate and stats on examples/raw"
	@echo "make test    install if missing, then run the tests"
	@echo "make check   lint, format and types"
	@echo "make format  mend what the linter can mend"
	@echo "make clean   remove the demo, the caches and the virtual environment"

# `.typing/usds` lets the type checker see the folders at the root as the namespace package `usds`.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	USDS_COMPILE=0 $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@mkdir -p .typing && ln -sfn .. .typing/usds
	@touch $@

demo: $(READY)
	@sh examples/demo.sh $(BIN)/usds $(DEMO)

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(DEMO) .typing .pytest_cache .ruff_cache build dist *.egg-info
