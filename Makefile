# One command each. `make setup` runs first where something outside Cargo is needed: it says what it installs, and does
# nothing when all is there.
#
#   make build          the two binaries, optimised: target/release/drcm_server and target/release/drcm
#   make demo           three real daemons on this machine, a cut cable, the measured outage
#   make test           every test; needs root or unprivileged user namespaces
#   make lint           rustfmt, clippy, cargo-deny, shellcheck
#   make sim SEEDS=N    N seeds of the simulator
#   make fmt            rustfmt

SHELL := /bin/bash
SEEDS ?= 10000
CARGO ?= cargo

.PHONY: build demo test lint sim fmt setup-build setup-demo setup-test setup-lint

build: setup-build
	$(CARGO) build --release --locked --bins

demo: setup-demo build
	./target/release/drcm demo

test: setup-test
	$(CARGO) nextest run --locked --all-targets --no-run
	scripts/with-namespaces $(CARGO) nextest run --locked --all-targets --no-fail-fast
	$(CARGO) test --locked --doc

lint: setup-lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	scripts/deny
	scripts/shellcheck-all

sim: setup-test
	DRCM_SIM_SEEDS=$(SEEDS) $(CARGO) nextest run --locked --no-capture -E 'test(/simulation/)'

fmt:
	$(CARGO) fmt

setup-build setup-demo setup-test setup-lint: setup-%:
	@scripts/setup $*
