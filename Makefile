# The commands of the project. Each sets up what it needs first: a virtual environment `.venv` in the
# checkout, made from the lock, and for the tests the system packages whose services they start.
PYTHON ?= python3
OUT ?= out/demo
SECONDS ?= 600
BIN := .venv/bin
NATIVE := $(wildcard data_pipeline/crawl/native/*)
QUIET := --disable-pip-version-check --quiet

.PHONY: demo test test-radosgw soak fuzz check bench docs cuda-kernels lock clean

demo: .venv/ready
	$(BIN)/trawl demo --out $(OUT)

test: .venv/ready
	bash tests/install-services.sh
	$(MAKE) --no-print-directory .venv/native check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# All tests that speak S3, against Ceph's gateway in place of moto.
test-radosgw: .venv/ready
	bash tests/install-services.sh radosgw
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --s3-server radosgw

# Whole demos and runs killed many times over: many minutes, so not with every test.
soak: .venv/ready
	$(BIN)/python -m pytest -m soak

# Ten minutes for each place where bytes of strangers come in; SECONDS=60 for a short run.
fuzz: .venv/ready
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/ready
	for program in bench/*.py; do $(BIN)/python $$program || exit 1; done

docs: .venv/ready
	$(BIN)/python -m pytest tests/docs

# CUDA C++ that is taken in place of Triton where it was built; fetches nvcc from PyPI into build/.
cuda-kernels: .venv/ready
	$(BIN)/python -m data_pipeline.detector.cuda_build

# Resolves anew under the constraints in pyproject.toml: names, versions and hashes, no registry.
lock:
	uv pip compile pyproject.toml --extra dev --extra gpu --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock

# A killed installation leaves packages half written, so one that did not end begins afresh.
# uv, itself from the lock, installs twice as fast; plain pip does the same where uv finds no index.
# Bytecode is made once here: where Python may not write it, every process would compile torch anew.
.venv/ready: requirements.lock pyproject.toml
	rm -rf .venv
	$(PYTHON) -m venv .venv
	awk '/^[^ ]/ { wanted = /^uv==/ } wanted' requirements.lock > .venv/uv.lock
	$(BIN)/pip $(QUIET) install --no-deps --require-hashes -r .venv/uv.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --require-hashes \
	  -r requirements.lock \
	  || $(BIN)/pip $(QUIET) install --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip $(QUIET) install --no-deps --no-build-isolation --editable .
	touch .venv/ready

# The extension in C again, after a change of its sources or once there is a compiler.
.venv/native: .venv/ready $(NATIVE)
	$(BIN)/pip $(QUIET) install --no-deps --no-build-isolation --editable .
	touch .venv/native

clean:
	rm -rf .venv out build data_pipeline/crawl/_walk.*.so
