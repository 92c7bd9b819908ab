# Everything here works on a Debian or Ubuntu machine without ROS: the first call sets up an environment in .venv
# (QDTRACK_VENV=/elsewhere puts it elsewhere), later calls use it at once. On a ROS install, use colcon; see README.md.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
export PYTHON QDTRACK_VENV

# More arguments for pytest, e.g. make test ARGS="-k tracker"
ARGS ?=
# A video of your own for the demo, e.g. make demo VIDEO=street.mp4
VIDEO ?=

.PHONY: help setup test demo lint colcon clean

help: ## This list
	@awk -F ': ##' '/^[a-z]+: ##/ { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: ## Set up the environment, or bring it up to date
	@scripts/setup.sh

test: ## Run every check and test this machine can run
	@scripts/setup.sh
	@OMP_NUM_THREADS=1 scripts/run.sh python -m pytest $(ARGS)

demo: ## Track people in a street video through the live ROS 2 node; results in demo/
	@scripts/setup.sh
	@scripts/run.sh python scripts/demo.py $(if $(VIDEO),"$(VIDEO)")

lint: ## Check style and types
	@scripts/setup.sh
	@scripts/run.sh ruff check .
	@scripts/run.sh mypy

colcon: ## Check that colcon builds the package as on a ROS install (some minutes)
	@scripts/setup.sh
	@scripts/run.sh scripts/check_colcon_build.sh

clean: ## Delete build folders, caches and demo results; the environment stays
	@rm -rf build install log demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find qdtrack_ros test scripts launch -name __pycache__ -type d -prune -exec rm -rf {} +
