# Everything a fresh machine needs stands in scripts/; `make demo` and `make test` are the two commands.
SHELL := /bin/bash
VENV := .venv
RUN := $(VENV)/bin/

.NOTPARALLEL:
.PHONY: demo test quick soak up lock machine format pages bench

$(VENV)/installed: requirements.lock pyproject.toml client/pyproject.toml hatch_build.py src/gridapps/sandbox/init/init.c
	@scripts/venv

demo: machine $(VENV)/installed
	@scripts/demo

up: machine $(VENV)/installed
	@scripts/up

test: machine $(VENV)/installed
	@scripts/test

soak: machine $(VENV)/installed
	@scripts/soak

quick: $(VENV)/installed
	@scripts/quick

machine:
	@scripts/machine

lock:
	$(RUN)uv pip compile -q --generate-hashes --no-emit-index-url --python-version 3.11 --group dev --group demo --custom-compile-command "make lock" pyproject.toml client/pyproject.toml -o requirements.lock

format: $(VENV)/installed
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

pages: $(VENV)/installed
	$(RUN)python scripts/pages.py

bench: machine $(VENV)/installed
	@scripts/bench
