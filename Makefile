# Everything that a checkout needs comes from `make setup`; nothing asks a question.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.SILENT:

# mininet drives the network, tgt serves, wireshark's tools record, mmdebstrap makes guests' images.
PACKAGES := mininet bridge-utils net-tools procps iproute2 tgt mmdebstrap e2fsprogs uidmap \
            debian-archive-keyring gpgv tshark wireshark-common python3 python3-venv
# libiscsi is the second initiator; the others are what failovers are measured beside.
FOR_TESTS := qemu-utils qemu-block-extra libiscsi-bin iputils-arping keepalived
RELEASE ?= trixie
# Named after what they were made from, so that a change of it makes them anew.
CONTENT := $(shell cat pyproject.toml requirements.lock requirements-dev.lock | cksum | cut -d' ' -f1)
STAMP := .venv/.done-$(CONTENT)
DEV_STAMP := .venv/.dev-$(CONTENT)
PIP := .venv/bin/pip install -qq --disable-pip-version-check --no-warn-script-location
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: setup packages image demo test test-all test-pythons mutate lint lock doctor clean

setup: packages $(STAMP) image

test test-all: PACKAGES += $(FOR_TESTS)

packages:
	# It ends with an error where it has never heard of one of them.
	missing=$$({ dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(PACKAGES) 2>/dev/null || :; } \
	  | awk '$$2 == "installed" {print $$1}' | sort | comm -23 <(printf '%s\n' $(PACKAGES) | sort) -)
	[ -n "$$missing" ] || exit 0
	echo "setup: installing" $$missing
	# Debian starts a tgtd for the whole machine with its package. The lab runs its own, inside; a
	# machine that had none before shall not listen on port 3260 after.
	log=$$(mktemp)
	masked=
	tidy() {
	  rm -f "$$log"
	  [ -z "$$masked" ] || $(SUDO) systemctl unmask --runtime --quiet tgt.service
	}
	trap tidy EXIT
	if grep -qx tgt <<<"$$missing" && [ -d /run/systemd/system ]; then
	  $(SUDO) systemctl mask --runtime --quiet tgt.service && masked=yes
	fi
	$(SUDO) apt-get update >"$$log" 2>&1 || { cat "$$log"; exit 1; }
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing \
	  >"$$log" 2>&1 || { cat "$$log"; exit 1; }
	[ -z "$$masked" ] || $(SUDO) systemctl disable --quiet tgt.service

# Debian's own Python, for its mininet (that of the index lacks the program mnexec). Emptied first:
# what an older lock file had and this one has not would stay. Nothing is fetched but what the lock
# file names; so setuptools is in it too, and builds this package where it is.
$(STAMP): | packages
	echo "setup: making .venv"
	/usr/bin/python3 -m venv --clear --system-site-packages .venv
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

# Only for tests and lint: mypy, ruff and hypothesis take minutes to install on a slow machine.
$(DEV_STAMP): | $(STAMP)
	echo "setup: adding what tests and lint need"
	$(PIP) --require-hashes -r requirements-dev.lock
	touch $@

# For all Pythons at once, which pip cannot. Keeps what still fits; `make lock LOCK=--upgrade` asks
# for the newest of all.
lock:
	work=$$(mktemp -d)
	trap 'rm -rf "$$work"' EXIT
	/usr/bin/python3 -m venv "$$work"
	"$$work/bin/pip" install -qq uv
	compile() {
	  "$$work/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --custom-compile-command "make lock" $(LOCK) "$$@"
	}
	compile -o requirements.lock pyproject.toml
	compile --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	compile -o requirements-mutate.lock tests/mutation/requirements.in

image: $(STAMP)
	.venv/bin/lab image build $(RELEASE)

demo: setup
	.venv/bin/lab demo --release $(RELEASE)

test: setup $(DEV_STAMP)
	.venv/bin/pytest

# Also every scenario with every target that can run it.
test-all: export LAB_TEST_ALL = 1
test-all: test
	.venv/bin/lab suite run --target all --jobs auto

# The unit tests with other Pythons, where they are: each in a venv that sees Debian's mininet, which
# is for any of them, and nothing else of Debian's.
PYTHONS ?= python3.12 python3.13 python3.14
test-pythons: setup
	work=$$(mktemp -d)
	trap 'rm -rf "$$work"' EXIT
	mkdir "$$work/debian"
	ln -s /usr/lib/python3/dist-packages/mininet "$$work/debian"
	for python in $(PYTHONS); do
	  command -v "$$python" >/dev/null || { echo "not here: $$python"; continue; }
	  "$$python" -m venv "$$work/venv"
	  "$$work/venv/bin/pip" install -qq --require-hashes -r requirements-dev.lock
	  "$$work/venv/bin/pip" install -qq --no-deps --no-build-isolation -e .
	  echo "$$work/debian" >"$$(echo "$$work"/venv/lib/python3*/site-packages)/debian.pth"
	  "$$work/venv/bin/pytest" tests/unit
	  rm -r "$$work/venv"
	done

# One mistake at a time in the product: which do the unit tests notice? `MUTATE` names files of it.
# Takes the better part of an hour for all. See docs/mutation.md.
MUTATE ?=
mutate: setup $(DEV_STAMP)
	$(PIP) --require-hashes -r requirements-mutate.lock
	nice -n 15 .venv/bin/python tests/mutation $(MUTATE)

lint: $(DEV_STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

doctor: $(STAMP)
	.venv/bin/lab doctor

clean:
	rm -rf .venv build mutants *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
