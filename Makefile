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
STAMP := .venv/.done-$(shell cksum pyproject.toml | cut -d' ' -f1)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: setup packages image demo test lint doctor clean

setup: packages $(STAMP) image

test: PACKAGES += $(FOR_TESTS)

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

# Debian's own Python, for its mininet (that of the index lacks the program mnexec).
$(STAMP): pyproject.toml | packages
	echo "setup: making .venv"
	/usr/bin/python3 -m venv --system-site-packages .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --no-warn-script-location -e '.[dev]'
	rm -f .venv/.done-*
	touch $@

image: $(STAMP)
	.venv/bin/lab image build $(RELEASE)

demo: setup
	.venv/bin/lab demo --release $(RELEASE)

test: setup
	.venv/bin/pytest

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

doctor: $(STAMP)
	.venv/bin/lab doctor

clean:
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
