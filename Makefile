# `make demo` and `make test` do all the set-up themselves: a machine needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# protoc finds its plugins, and tests find buf, where they are installed.
export PATH := $(abspath $(BIN)):$(PATH)
# Services are processes: with this set, each that a test or a demo starts would compile all of the code anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo up bench test quick long-tests soak fuzz tools test-tools need-go lint types check-gen gen page docs lock image-locks images wheel release-contracts clean

help:               ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(VENV)/.ready  ## virtual environment with everything, from requirements.lock

# uv installs the same wheels with the same hash checks as pip, in a fifth of the time. It is itself installed by hash.
# Compiled once, as pip does it: with PYTHONDONTWRITEBYTECODE each process that loads torch would compile it again.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"lensmesh needs Python 3.11 or newer, this is {v.major}.{v.minor}: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: setup         ## the main job on drawn scenes: ingest, search, captions, figures
	$(BIN)/lensmesh demo $(ARGS)

up: setup           ## the mesh on this machine
	$(BIN)/lensmesh up $(ARGS)

# One of them alone takes ARGS of its own: make bench BENCH=overhead ARGS="--cases calls".
BENCH ?= engine overhead
bench: setup        ## the serving engine beside the model itself, open_clip and other servers; what serving itself costs
	for one in $(BENCH); do $(BIN)/python -m bench.$$one $(ARGS) || exit 1; done

# A whole run is shared by several processes: many tests wait. A part of it (ARGS) runs in one, with its output as it comes.
# The types are checked beside the tests, which takes one core a minute; what is said of them comes at the end.
JOBS ?= 4
test: setup lint    ## everything that CI checks
	@$(BIN)/mypy >$(VENV)/types.txt & types=$$!; \
	trap 'kill $$types 2>/dev/null' INT TERM; \
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses $(JOBS)); tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/types.txt; exit $$((tests + types))

quick: setup lint types  ## lint, types, and the tests that start no process and take below half a second
	$(BIN)/python -m pytest --quick --quiet --numprocesses $(JOBS) $(ARGS)

long-tests: setup   ## note anew which tests `make quick` leaves out: a whole run on a quiet machine
	$(BIN)/python -m pytest --note-long --numprocesses $(JOBS)

# Real programs to look with and to test against, built from Go modules whose versions and hashes deploy/tools/ pins.
TOOLS := $(abspath .tools)/bin
GO_BUILD = cd deploy/tools/$(1) && GOFLAGS=-buildvcs=false go build -trimpath -o $(TOOLS)/ $(2)

tools: need-go      ## Jaeger and grpcurl in .tools/bin, from their sources (needs Go)
	mkdir -p $(TOOLS)
	$(call GO_BUILD,jaeger,github.com/jaegertracing/jaeger/cmd/jaeger)
	$(call GO_BUILD,grpcurl,github.com/fullstorydev/grpcurl/cmd/grpcurl)

test-tools: tools   ## the same, and the Kubernetes API server and kubectl that tests talk to
	$(call GO_BUILD,kubernetes,k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl)
	cd deploy/tools/crds && go mod download -json $$(sed -nE 's/^\t(\S+) (v\S+)/\1@\2/p' go.mod) >/dev/null

need-go:
	@command -v go >/dev/null || { echo "Go is not on this machine: install it from go.dev, then run this again"; exit 1; }

lint: setup         ## ruff, buf lint, buf format, buf breaking
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m protos.check

soak: setup         ## ten minutes of mixed calls: does a process grow? (ARGS="--seconds 60 --model mock")
	$(BIN)/python -m bench.soak $(ARGS)

fuzz: setup         ## thousands of damaged images through a real mesh: does anything give way? (ARGS="--mutants 300")
	$(BIN)/python -m bench.fuzz $(ARGS)

types: setup        ## mypy --strict
	$(BIN)/mypy

check-gen: setup    ## gen/ is what protos/ makes, and the contracts keep their rules
	$(BIN)/python -m pytest --quiet tests/contracts

gen: setup          ## make gen/ from protos/, and the generated part of clients/ (needs Go and npm)
	$(BIN)/python -m protos.generate

page:               ## build the page anew out of web/ into http_svc/static (needs Node)
	@command -v npm >/dev/null || { echo "Node is not on this machine: install it, with npm, then run this again"; exit 1; }
	cd web && npm ci --silent && npm run --silent build

docs: setup         ## write the reference pages and the deployment files that are made from code
	$(BIN)/python -m docs.generate
	$(BIN)/python -m deploy.observability.generate
	$(BIN)/python -m deploy.generate

lock: setup         ## pin every dependency, with hashes and without any address
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
	  --extra dev pyproject.toml --output-file requirements.lock
	echo uv | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --upgrade - --output-file requirements-uv.lock
	$(MAKE) image-locks

# Out of requirements.lock: an image has what everybody tests with.
IMAGE_LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--constraint requirements.lock
image-locks: setup  ## pin what each image installs
	for image in router search http encoder caption; do \
	  case $$image in \
	    encoder) more="--extra redis --extra openvino --extra match";; caption) more="--extra redis --extra openvino";; \
	    router) more="--extra match";; *) more=;; esac; \
	  $(IMAGE_LOCK) --extra cli --extra $$image --extra sentry $$more pyproject.toml --output-file deploy/images/$$image.lock; done
	$(IMAGE_LOCK) --extra cli --extra telemetry pyproject.toml --output-file deploy/images/cli.lock
	printf 'cyclonedx-bom\nhatchling\npip\n' | $(IMAGE_LOCK) - --output-file deploy/images/build.lock

# docs/images.md tells the arguments: make images IMAGES=encoder ARGS="--build-arg TORCH_INDEX=..."
IMAGES  ?= router search http cli encoder caption
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG     ?= $(VERSION)
# The first that is here and works. The last two have to be told to keep health checks.
BUILDER ?= $(firstword $(foreach one,docker podman buildah,$(shell $(one) info >/dev/null 2>&1 && echo $(one))))
BUILD    = $(BUILDER) build $(if $(filter podman buildah,$(notdir $(BUILDER))),--format docker)
images:             ## an image for each service and the command, by docker, podman or buildah
	@test -n "$(BUILDER)" || { echo "none of docker, podman and buildah works on this machine"; exit 1; }
	for image in $(IMAGES); do \
	  $(BUILD) --file Dockerfile --target $$image --build-arg VERSION=$(VERSION) --tag lensmesh-$$image:$(TAG) $(ARGS) . || exit 1; done

wheel: setup        ## dist/*.whl
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist

release-contracts: setup  ## what later contracts are compared with
	$(BIN)/buf build protos --exclude-source-info --output protos/released.binpb

clean:              ## remove what was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
