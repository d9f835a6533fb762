# Every target sets up what is missing first; the second time that takes a moment.
MODEL ?= demo
ARGS ?=
VENV := .venv/bin

.PHONY: setup browser demo serve check test test-extended lint format bench train evaluate

setup:
	@deploy/setup.sh

# Chromium, for the tests of the playground.
browser: setup
	@deploy/setup_browser.sh

demo: setup
	@$(VENV)/saccade demo $(ARGS)

serve: setup
	@$(VENV)/saccade serve $(MODEL) $(ARGS)

# What needs no engine and is not slow, in at most two minutes on two cores: before every commit.
check: lint
	@OMP_NUM_THREADS=1 $(VENV)/pytest -m "not engine and not slow" -n 2 --dist=loadfile $(ARGS)

test: browser
	@$(VENV)/pytest $(or $(ARGS),-m "not extended" -n 3 --no-loadscope-reorder)

# Other processors, dtypes, Triton releases and checkpoints; kernels interpreted; the benchmarks.
test-extended: setup
	@$(VENV)/pytest -m extended -n 3 --no-loadscope-reorder
	@OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(VENV)/pytest -n 2 tests/interpreted

lint: setup
	@$(VENV)/ruff format --check . && $(VENV)/ruff check . && $(VENV)/mypy
	@$(VENV)/lint-imports --no-logo

format: setup
	@$(VENV)/ruff format . && $(VENV)/ruff check --fix .

bench: setup
	@$(VENV)/saccade bench load $(or $(ARGS),--profile image-448)

train: setup
	@nice $(VENV)/python -m saccade.demo.train $(ARGS)
	@nice $(VENV)/python -m saccade.demo.train --talk $(ARGS)

evaluate: setup
	@$(VENV)/python -m saccade.demo.evaluate $(ARGS)
