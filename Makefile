# Everything a newcomer needs: `make up`, `make test`. The environment is made on first use.
# Another Python: make PYTHON=/usr/bin/python3 up

.POSIX:
.PHONY: help up test check format bench bench-scale bench-jobs chaos soak lock runtime dev clean

PYTHON ?=
BIN = .venv/bin
ARGS =
TESTS = tests
SCHEDULES = 5
MINUTES = 30
DEVICES = 500 5000 18000
PEERS = loadtests/bench/peers

help:
	@echo "make up       install what is needed, start everything on this machine, keep running"
	@echo "make test     the whole test suite (under 10 minutes)"
	@echo "make check    format, lint, types, import contracts"
	@echo "make bench    cost and latency figures beside a bare relay, and of the whole path (on demand)"
	@echo "make bench-scale   the same beside other servers, at 500, 5,000 and 18,000 sockets (on demand)"
	@echo "make bench-jobs    lists of 5 million jobs by cursor and by OFFSET; 8 GB of disk, kept for the next time (on demand)"
	@echo "make chaos SCHEDULES=n, make soak MINUTES=n   fault and endurance runs (on demand)"

runtime:
	@PYTHON="$(PYTHON)" sh infra/bootstrap runtime

dev:
	@PYTHON="$(PYTHON)" sh infra/bootstrap dev

up: runtime
	@exec $(BIN)/fleetwire up $(ARGS)

test: dev
	@$(BIN)/python -m pytest -n auto --dist worksteal $(TESTS) $(ARGS)

check: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: dev
	@$(BIN)/python -m loadtests.bench $(ARGS)

bench-scale: dev
	@$(BIN)/python -m loadtests.bench.peers --devices $(DEVICES) --docs docs $(ARGS)

bench-jobs: dev
	@$(BIN)/python -m loadtests.bench_jobs $(ARGS)

chaos: dev
	@$(BIN)/python -m loadtests.chaos --schedules $(SCHEDULES) $(ARGS)

soak: dev
	@$(BIN)/python -m loadtests.soak --minutes $(MINUTES) $(ARGS)

# For maintainers: needs uv and npm. The locks hold no index addresses, so they work behind any mirror.
lock:
	env -u UV_INDEX_URL uv pip compile pyproject.toml --group build --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet $(ARGS) -o requirements.lock
	env -u UV_INDEX_URL uv pip compile pyproject.toml --group build --group dev -c requirements.lock --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet $(ARGS) -o requirements-dev.lock
	env -u UV_INDEX_URL uv pip compile pyproject.toml --extra otlp --group build -c requirements-dev.lock --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet $(ARGS) -o requirements-otlp.lock
	env -u UV_INDEX_URL uv pip compile $(PEERS)/requirements.in --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet $(ARGS) -o $(PEERS)/requirements.txt
	env -u UV_INDEX_URL uv pip compile loadtests/official/requirements.in --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet $(ARGS) -o loadtests/official/requirements.txt
	env -u UV_INDEX_URL uv pip compile loadtests/jobs_bench/requirements.in --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet $(ARGS) -o loadtests/jobs_bench/requirements.txt
	env -u UV_INDEX_URL uv pip compile infra/docker/tools/requirements.in --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet $(ARGS) -o infra/docker/tools/requirements.txt
	env -u UV_INDEX_URL uv pip compile infra/docker/patroni/requirements.in --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --quiet $(ARGS) -o infra/docker/patroni/requirements.txt
	cd $(PEERS) && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
