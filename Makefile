# demo, test, lint, bench, docs: the five words to learn. Each sets up what it needs in .venv, inside the tree.
# Written for GNU make 3.81 (macOS) and a POSIX sh.

SHELL = /bin/sh
PY = .venv/bin/python
PROMPT = What's 12 plus 30?
PARTS = build/tiny/average
ARGS =
CHECK =

# pytest ends with 5 where ARGS picks no test of this half.
NONE_IS_FINE = $(if $(ARGS),|| [ $$? -eq 5 ])

# Taken as typed: a dollar sign or a quote in a prompt is no business of make's or the shell's.
export DS4_PROMPT := $(value PROMPT)
export PYTHON

# The fast tests first, whatever -j says.
.NOTPARALLEL:

.PHONY: help demo test test-fast test-slow lint bench docs soak tiny clean

help:
	@echo 'make demo    answer a prompt with the embedded model: make demo PROMPT="What is 3 times 12?"'
	@echo 'make test    all tests, the fast ones first (make test-fast: only those); ARGS="-k name" picks some'
	@echo 'make lint    ruff and mypy'
	@echo 'make bench   speed of the embedded model on this machine'
	@echo 'make soak    30 minutes of mixed requests with kills; ARGS="--minutes 1" for less'
	@echo 'make tiny    put the weights of a training run (PARTS=build/tiny/average) in the place of the embedded model'
	@echo 'make docs    write the generated parts of docs/ again; CHECK=1 fails where they differ'

# One stamp for each set of extras, each set a part of the next; a changed pyproject.toml installs again.
.venv/.demo: pyproject.toml tools/setup.sh
	@tools/setup.sh llm
	@touch $@

.venv/.test: pyproject.toml tools/setup.sh
	@tools/setup.sh test
	@touch .venv/.demo $@

.venv/.lint: pyproject.toml tools/setup.sh
	@tools/setup.sh test,lint
	@touch .venv/.demo .venv/.test $@

# Its own llm folder and cache, and no other plugin: nothing outside the tree is written, the user's llm stays as it is.
demo: .venv/.demo
	@LLM_USER_PATH="$(CURDIR)/.venv/llm" LLM_LOAD_PLUGINS=ds4-backend DS4_BACKEND_CACHE_DIR="$(CURDIR)/.venv/cache" DS4_BACKEND_STATE_DIR="$(CURDIR)/.venv/state" \
		.venv/bin/llm -m ds4-tiny -o temperature 0 -- "$$DS4_PROMPT"

test: test-fast test-slow

# One process a core, each with one BLAS thread: the networks of the tests are too small for more.
# Bytecode is kept whatever the shell says: to compile it all again in every process takes a sixth of the time.
# Kernels that tests run on the CPU are compiled once, for all processes and the next run.
PYTEST = OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= DS4_SHIM_CACHE="$(CURDIR)/.venv/kernels" $(PY) -m pytest -q -n auto --maxprocesses 8

test-fast: .venv/.test
	$(PYTEST) -m "not slow" $(ARGS) $(NONE_IS_FINE)

test-slow: .venv/.test
	$(PYTEST) -m slow $(ARGS) $(NONE_IS_FINE)

lint: .venv/.lint
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: .venv/.demo
	$(PY) benchmarks/run.py $(ARGS)

soak: .venv/.demo
	OPENBLAS_NUM_THREADS=1 $(PY) tools/soak.py $(ARGS)

# PARTS is what examples/train-tiny/README.md says how to make.
tiny: .venv/.demo
	$(PY) examples/train-tiny/convert.py $(PARTS) ds4_backend/assets/ds4-tiny.gguf

docs: .venv/.demo
	$(PY) tools/docs.py $(if $(CHECK),--check)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
