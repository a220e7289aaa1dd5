# One command each. `make setup` runs first where something outside Cargo is needed: it says what it installs, and does
# nothing when all is there.
#
#   make build          the two binaries, optimised: target/release/drcm_server and target/release/drcm
#   make demo           three real daemons on this machine, a cut cable, the measured outage
#   make test           every test; needs root, or unprivileged user namespaces for all but those that boot whole systems
#   make lint           rustfmt, clippy, cargo-deny, shellcheck
#   make sim SEEDS=N    N seeds of the simulator
#   make model DEPTH=N  every interleaving of three nodes, deeper than in `make test`: to depth N, or +N steps further
#   make fuzz           every fuzzed target for FUZZ_SECONDS each (600), see docs/fuzzing.md
#   make mutants        breaks the core on purpose in each way of tests/mutants: none may survive the checks
#   make install_root   puts the optimised build into DESTDIR (empty: this machine), as root; never overwrites /etc/drcm files
#   make fmt            rustfmt

SHELL := /bin/bash
SEEDS ?= 10000
DEPTH ?= +1
FUZZ_SECONDS ?= 600
CARGO ?= cargo
DESTDIR ?=
UNITDIR ?= /usr/lib/systemd/system

.PHONY: build demo test lint sim model fuzz mutants install_root fmt setup-build setup-demo setup-test setup-lint setup-fuzz

build: setup-build
	$(CARGO) build --release --locked --bins

demo: setup-demo build
	./target/release/drcm demo

test: setup-test
	$(CARGO) nextest run --locked --all-targets --no-run
	scripts/with-namespaces $(CARGO) nextest run --locked --all-targets --no-fail-fast $$(scripts/container-root --filter)
	$(CARGO) test --locked --doc

lint: setup-lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	scripts/deny
	scripts/shellcheck-all

sim: setup-test
	DRCM_SIM_SEEDS=$(SEEDS) $(CARGO) nextest run --locked --cargo-profile sim --no-capture --test sim -E 'test(/simulation/)'

# A script or example that the administrator has edited is kept; the new one is put beside it as FILE.new.
install_root: build
	scripts/install "$(DESTDIR)" "$(UNITDIR)"

# One scenario after another: a deep search takes gigabytes.
model: setup-test
	DRCM_MODEL_DEPTH=$(DEPTH) $(CARGO) test --locked --test model -- --nocapture --test-threads 1

fuzz: setup-fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz

mutants: setup-test
	scripts/mutants

fmt:
	$(CARGO) fmt

setup-build setup-demo setup-test setup-lint setup-fuzz: setup-%:
	@scripts/setup $*
