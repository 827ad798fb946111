# Corpusmill. `make` lists the targets. Nothing is needed but Python 3.11 or newer.
PYTHON ?= python3
EXTRAS ?=
INPUT  ?=
OUTPUT ?=
BIN    := .venv/bin
TOOLS  := $(or $(CORPUSMILL_SERVERS),.servers)/deploy
comma  := ,
STAMP  := .venv/.setup-$(subst $(comma),-,$(EXTRAS))
DEV    := .venv/.setup-dev
# Compiled here, or every start compiles three thousand files again where PYTHONDONTWRITEBYTECODE is set, as in many images.
WARM    = @env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c 'import logging; logging.disable(); import pipeline.cli, pipeline.run, pipeline.corrections, pipeline.tables, transforms.analyzer'
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help setup run test test-stores test-flink test-deploy bench-dedupe bench-redaction fuzz lint type format lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with the corpusmill command (EXTRAS=s3,gcs,azure,gcp for clouds)

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Corpusmill needs Python 3.11 or newer; name one: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock uv

$(STAMP): .venv/bin/uv pyproject.toml requirements.lock
	$(INSTALL) --editable '.$(if $(EXTRAS),[$(EXTRAS)])'
	$(WARM)
	@touch $@

$(DEV): .venv/bin/uv pyproject.toml requirements.lock
	$(INSTALL) --editable . --group dev
	$(WARM)
	@touch $@

run: $(STAMP)  ## run the mill on the example, or on your files: make run INPUT='logs/*.jsonl' OUTPUT=out/mine
ifeq ($(INPUT),)
	$(BIN)/corpusmill run examples/config.yaml --output "$(or $(OUTPUT),out/example)"
else
	@test -n "$(OUTPUT)" || { echo "name a folder for the dataset: make run INPUT='…' OUTPUT=out/mine"; exit 2; }
	$(BIN)/corpusmill run --input $(INPUT) --output "$(OUTPUT)"
endif

test: $(DEV)  ## run the tests, a file of them a process at a time
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-stores: $(DEV)  ## test on MinIO, fake-gcs-server and Azurite, which it installs (needs go, npm)
	$(BIN)/python -m tests.servers install stores
	$(BIN)/python -m pytest tests/servers/test_stores.py tests/servers/test_reach.py

test-flink: $(DEV)  ## test on a real Flink cluster, Prism and MinIO, which it installs (needs go, java, mvn)
	$(BIN)/python -m tests.servers install flink
	$(BIN)/python -m pytest tests/servers/test_flink.py

SIZE  ?= 100000
PEERS ?=
PEER  := out/peers
$(PEER)/.setup: $(DEV) benchmarks/dedupe_peers.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEER)
	$(BIN)/uv pip install --quiet --python $(PEER)/bin/python --requirements benchmarks/dedupe_peers.txt
	@touch $@

bench-dedupe: $(DEV) $(if $(PEERS),$(PEER)/.setup)  ## measure de-duplication beside the truth (SIZE=100000, PEERS=1 for other tools)
	$(BIN)/python benchmarks/dedupe.py --size $(SIZE) $(if $(PEERS),--peers $(PEER)/bin/python)

$(TOOLS)/.done: .venv/bin/uv tests/deploy/requirements.txt Makefile
	rm -rf $(TOOLS) && mkdir -p $(TOOLS)
	$(BIN)/uv venv --quiet --python $(BIN)/python $(TOOLS)/venv
	$(BIN)/uv pip install --quiet --python $(TOOLS)/venv/bin/python --requirement tests/deploy/requirements.txt
	GOBIN=$(abspath $(TOOLS)) go install -ldflags='-s -w' github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0
	GOBIN=$(abspath $(TOOLS)) go install -ldflags='-s -w' github.com/fsouza/fake-gcs-server@v1.56.1
	mvn -q -B -ntp dependency:copy -Dartifact=org.apache.flink:flink-kubernetes-operator-api:1.10.0 -DoutputDirectory=$(abspath $(TOOLS))
	@touch $@

test-deploy: $(DEV) $(TOOLS)/.done  ## check what is in deploy/: the image's steps, manifests, policies, Dataflow's template (needs go, mvn)
	CORPUSMILL_TOOLS=$(abspath $(TOOLS)) $(BIN)/python -m pytest tests/deploy

bench-redaction: $(DEV)  ## measure redaction: speed, hostile texts and start, then quality
	$(BIN)/python -m benchmarks.redaction
	$(BIN)/python -m benchmarks.redaction_quality

SECONDS ?= 600
fuzz: $(DEV)  ## try to make redaction differ from Presidio's own engine (SECONDS=600)
	$(BIN)/python -m tests.fuzz_redaction --seconds $(SECONDS)

lint: $(DEV)  ## look for style and likely errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(DEV)  ## check the types
	$(BIN)/mypy

format: $(DEV)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(DEV)  ## resolve all dependencies anew, extras and tools together
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --no-header --no-annotate --quiet --upgrade --output-file requirements.lock

clean:  ## remove .venv and outputs
	rm -rf .venv out build *.egg-info
