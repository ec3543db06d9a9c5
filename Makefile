# `make help` lists what there is. A fresh Debian 12 with Rust and Python 3 is enough: what else is needed is installed.

TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON := .venv/bin/python
# How often `make bench` measures everything.
BENCH_ROUNDS ?= 5
# How many users `make bench` enrols and asks for.
BENCH_USERS ?= 100000
# How long `make soak` lasts.
SOAK_MINUTES ?= 10
# Which programs `make images` and `make stack` put into images: `release`, or `debug`, which are far larger but there already after `make test`.
PROFILE ?= release
CARGO_PROFILE := $(if $(filter release,$(PROFILE)),--release)
# What `make free-threaded-python` builds, and a free-threaded Python to test on, if there is one.
FREE_THREADED_BUILT := target/tools/free-threaded-python/bin/python3
FREE_THREADED = $(shell tools/free-threaded-find.sh $(FREE_THREADED_BUILT))
# Beside an S3 server.
GUARD = $(TARGET)/release/with-servers --s3 memory -- $(TARGET)/release/dunnage-guard

.DEFAULT_GOAL := help
.PHONY: help build demo demo-s3 free-threaded free-threaded-python test-free-threaded images stack bench bench-micro bench-s3 scaling test guard guard-limits chaos fuzz mutants soak lint fmt clean \
	setup-build setup-test

help: ## say what there is
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /  make \1\t/p' Makefile | expand --tabs=28

build: setup-build ## build target/release/dunnage and the runtimes beside it
	@echo "build: cargo build --release"
	@cargo build --release --locked --workspace

demo: build ## serve the keystroke example in Python and Lua and repeat a published experiment on it
	@echo "demo: keystroke verification in Python, then in Lua (examples/keystroke/README.md)"
	@python3 examples/keystroke/demo.py --dunnage $(TARGET)/release/dunnage

demo-s3: build ## the same on two replicas that share PostgreSQL and a bucket
	@tools/setup.sh s3
	@echo "demo-s3: two replicas, PostgreSQL, garage (examples/keystroke/fleet.py)"
	@$(TARGET)/release/with-servers --postgres --s3 garage -- \
		python3 examples/keystroke/fleet.py --dunnage $(TARGET)/release/dunnage

free-threaded: setup-build ## build the module that a free-threaded Python needs: make free-threaded PYTHON=python3.14t
	@tools/free-threaded-module.sh $(PROFILE) $(PYTHON)

free-threaded-python: ## build a free-threaded Python from Debian's source into target/tools (six minutes)
	@tools/free-threaded-python.sh

test-free-threaded: FREE_THREADED := $(or $(FREE_THREADED),$(abspath $(FREE_THREADED_BUILT)))
test-free-threaded: setup-build $(if $(FREE_THREADED),,free-threaded-python) ## the Python runtime's tests on such a Python, which is built if there is none
	@cargo build --locked --package dunnage-python
	@tools/free-threaded-module.sh debug $(FREE_THREADED)
	@DUNNAGE_TEST_FREE_THREADED_PYTHON=$(FREE_THREADED) \
		cargo test --package dunnage-python --locked -- free_threaded global_lock --nocapture

images: setup-build ## build the images for Docker, and try what users make of them; with Debian's engine where none answers
	@tools/setup.sh images
	@echo "images: the programs of target/$(PROFILE)"
	@cargo build --locked --workspace $(CARGO_PROFILE)
	@tools/with-engine.sh sh -c 'docker/build.sh $(PROFILE) python lua full && \
		DUNNAGE_IMAGES_PROFILE=$(PROFILE) python3 -m unittest discover --start-directory docker/tests --verbose'

stack: setup-build ## the keystroke example on docker/compose.yaml, asked through its balancer while a replica is killed
	@tools/setup.sh stack
	@cargo build --locked --workspace $(CARGO_PROFILE)
	@tools/with-engine.sh sh -c 'docker/build.sh $(PROFILE) python && python3 docker/stack/check.py'

bench: build ## the server and its jobs beside their peers, in turns; writes bench/RESULTS.md (about an hour)
	@tools/setup.sh bench
	@mkdir -p $(TARGET)/bench && rm -f $(TARGET)/bench/*.jsonl
	@echo "bench: servers, $(BENCH_ROUNDS) rounds"
	@.venv-bench/harness/bin/python bench/serving/compare.py --dunnage $(TARGET)/release/dunnage \
		--limit $(TARGET)/release/dunnage-limit --rounds $(BENCH_ROUNDS) --results $(TARGET)/bench/serving.jsonl
	@echo "bench: jobs, $(BENCH_ROUNDS) rounds"
	@$(TARGET)/release/with-servers --postgres -- \
		.venv-bench/harness/bin/python bench/jobs/compare.py --dunnage $(TARGET)/release/dunnage \
		--rounds $(BENCH_ROUNDS) --results $(TARGET)/bench/jobs.jsonl
	@echo "bench: $(BENCH_USERS) users on each store"
	@$(TARGET)/release/with-servers --postgres -- \
		.venv-bench/harness/bin/python bench/users/enrol.py --dunnage $(TARGET)/release/dunnage \
		--users $(BENCH_USERS) --results $(TARGET)/bench/users.jsonl
	@echo "bench: what should stay small as a service grows"
	@$(TARGET)/release/with-servers --postgres -- \
		.venv-bench/harness/bin/python bench/growth/measure.py --dunnage $(TARGET)/release/dunnage \
		--results $(TARGET)/bench/growth.jsonl
	@echo "bench: what jobs and replicas cost their database"
	@$(TARGET)/release/with-servers --postgres -- \
		.venv-bench/harness/bin/python bench/scaling/footprint.py --dunnage $(TARGET)/release/dunnage \
		--results $(TARGET)/bench/footprint.jsonl
	@.venv-bench/harness/bin/python bench/scaling/capacity.py --serving $(TARGET)/bench/serving.jsonl \
		--jobs $(TARGET)/bench/jobs.jsonl --footprint $(TARGET)/bench/footprint.jsonl
	@.venv-bench/harness/bin/python bench/report.py --serving $(TARGET)/bench/serving.jsonl --jobs $(TARGET)/bench/jobs.jsonl \
		--growth $(TARGET)/bench/growth.jsonl --users $(TARGET)/bench/users.jsonl --into bench
	@echo "bench: bench/RESULTS.md"
	@$(MAKE) --no-print-directory scaling

scaling: ## simulate fleets of 100,000 users with what `make bench` has measured; writes the tables and plots of docs/scaling.md
	@tools/setup.sh scaling
	@.venv-bench/harness/bin/python bench/scaling/report.py --page docs/scaling.md
	@echo "scaling: docs/scaling.md, docs/scaling"

bench-micro: setup-build ## how long frames and the printing of numbers take (criterion; half a minute)
	@cargo bench --locked --package dunnage-guard --bench codec

bench-s3: build ## how fast a 1 GiB object arrives, beside public clients of S3
	@tools/setup.sh bench-s3
	@$(TARGET)/release/with-servers --s3 memory -- \
		.venv-bench/s3/bin/python bench/s3/compare.py --dunnage $(TARGET)/release/dunnage

test: lint ## all checks and tests, as CI runs them
	@echo "test: every crate"
	@cargo build --workspace --locked
	@$(if $(FREE_THREADED),tools/free-threaded-module.sh debug $(FREE_THREADED))
	@DUNNAGE_TEST_FREE_THREADED_PYTHON=$(FREE_THREADED) cargo test --workspace --locked
	@echo "test: the Python package"
	@DUNNAGE_TEST_COMMAND=$(abspath $(TARGET))/debug/dunnage-python PYTHONPATH=runtimes/python \
		$(PYTHON) -m unittest discover -s runtimes/python/tests
	@echo "test: the simulation of fleets"
	@$(PYTHON) -m unittest discover -s bench/scaling/tests
	@echo "test: the keystroke example"
	@PYTHONPATH=runtimes/python $(PYTHON) -m unittest discover -s examples/keystroke
	@echo "test: deployment files"
	@$(PYTHON) -m unittest discover -s deploy/tests --verbose
	@$(MAKE) --no-print-directory guard

guard: build setup-test ## count the instructions of what every request passes through; fails when they are more than is committed
	@echo "guard: instructions under callgrind, beside bench/guard/limits.toml"
	@$(GUARD) check bench/guard/limits.toml

guard-limits: build setup-test ## count them and write bench/guard/limits.toml anew; the commit says why
	@$(GUARD) write bench/guard/limits.toml
	@git diff --unified=0 -- bench/guard/limits.toml

chaos: setup-test ## a minute of faults on each store; and whether broken copies of the product are noticed
	@cargo build --workspace --locked
	@echo "chaos: do the promises hold?"
	@DUNNAGE_CHAOS_SECONDS=60 DUNNAGE_CHAOS_JOBS=2000 cargo test --package dunnage-cli --test chaos --locked -- \
		promises_hold --nocapture --test-threads=1
	@echo "chaos: is it noticed when they do not?"
	@DUNNAGE_CHAOS_MUTATIONS=all cargo test --package dunnage-cli --test chaos --locked -- mutation --nocapture --test-threads=1

fuzz: setup-test ## feed what reads foreign bytes with bytes made up, FUZZ_SECONDS a target; and a server, by its own description
	@tools/fuzz.sh
	@echo "fuzz: is the interface as it is described?"
	@cargo build --workspace --locked
	@DUNNAGE_SCHEMATHESIS_EXAMPLES=100 DUNNAGE_SCHEMATHESIS_SEED=$$RANDOM$$$$ cargo test --package dunnage-cli --test service --locked -- \
		described:: --nocapture

mutants: setup-test ## whether the tests about workers notice when what they test is broken
	@cargo build --workspace --locked
	@echo "mutants: copies of the binary, each with one function or text changed"
	@DUNNAGE_MUTATIONS=all cargo test --package dunnage-cli --test service --locked -- mutations:: --nocapture

soak: setup-test ## ten minutes of crashes, hangs, floods and overload (SOAK_MINUTES says how many): does the server stay as it is?
	@cargo build --workspace --locked
	@echo "soak: a server for each language, $(SOAK_MINUTES) minutes"
	@DUNNAGE_SOAK_MINUTES=$(SOAK_MINUTES) cargo test --package dunnage-cli --test soak --locked -- servers_stay --nocapture

lint: setup-test ## formatting, clippy, documentation, types, the stack; warnings are errors
	@echo "lint: cargo fmt --check"
	@cargo fmt --check
	@echo "lint: clippy"
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@echo "lint: rustdoc"
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	@echo "lint: mypy"
	@.venv/bin/mypy --strict runtimes/python/dunnage
	@echo "lint: docker/compose.yaml"
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose.yaml

fmt: ## format the Rust code
	@cargo fmt

clean: ## remove everything that was built or installed here
	@cargo clean
	@rm -rf .venv .venv-bench .mypy_cache fuzz/target

setup-build:
	@tools/setup.sh build

setup-test:
	@tools/setup.sh test
