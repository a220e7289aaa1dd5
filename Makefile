# One command each. `make setup` runs first where something outside Cargo is needed: it says what it installs, and does
# nothing when all is there.
#
#   make build          the two binaries, optimised: target/release/drcm_server and target/release/drcm
#   make static         the same, linked statically against musl, for any Linux: target/*-musl/release
#   make demo           three real daemons on this machine, a cut cable, the measured outage
#   make test           every test; needs root, or unprivileged user namespaces for all but those that boot whole systems
#   make vm-test        every scenario in virtual machines: network mounts, power failures, reboots, clocks; writes the table in
#                       docs/vm-tests.md. SCENARIO=short or SCENARIO=nfs: some of it, without the table. Needs root
#   make bench          every figure of docs/performance.md, measured here beside keepalived, and written there. FIGURE=failover: one,
#                       without the table. Needs root
#   make lint           rustfmt, clippy, cargo-deny, shellcheck
#   make sim SEEDS=N    N seeds of the simulator
#   make model DEPTH=N  every interleaving of three nodes, deeper than in `make test`: to depth N, or +N steps further
#   make fuzz           every fuzzed target for FUZZ_SECONDS each (600), see docs/fuzzing.md
#   make mutants        breaks the core on purpose in each way of tests/mutants: none may survive the checks
#   make man            manual pages and completions (bash, zsh, fish) of both programs, in target/manual
#   make reference      docs/configuration.md, from the schema of the configuration
#   make install_root   puts the optimised build into DESTDIR (empty: this machine), as root; never overwrites /etc/drcm files
#   make uninstall_root takes that away again, but for what was edited or added
#   make deb, make rpm  packages, in target/debian and target/generate-rpm
#   make fmt            rustfmt

SHELL := /bin/bash
SEEDS ?= 10000
DEPTH ?= +1
FUZZ_SECONDS ?= 600
SCENARIO ?= all
FIGURE ?= all
CARGO ?= cargo
DESTDIR ?=
UNITDIR ?= /usr/lib/systemd/system
MUSL ?= $(shell uname -m)-unknown-linux-musl
COMMITTED = $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: build static demo test vm-test bench lint sim model fuzz mutants man reference install_root uninstall_root package-build deb rpm fmt setup-build setup-demo setup-test setup-bench setup-lint setup-fuzz setup-package setup-static setup-vm

build: setup-build
	$(CARGO) build --release --locked --bins

static: setup-static
	CC_$(subst -,_,$(MUSL))=musl-gcc $(CARGO) build --release --locked --bins --target $(MUSL)

demo: setup-demo build
	./target/release/drcm demo

test: setup-test
	$(CARGO) nextest run --locked --all-targets --no-run
	scripts/with-namespaces $(CARGO) nextest run --locked --all-targets --no-fail-fast $$(scripts/container-root --filter); \
		status=$$?; scripts/steadily --report; exit $$status
	$(CARGO) test --locked --doc

# What is tested is the package. In the profile in which `make test` has built it, too.
vm-test: setup-vm deb
	$(CARGO) run --locked --quiet --profile test --example vm-tests -- $(SCENARIO)

bench: setup-bench build
	$(CARGO) build --release --locked --example bench
	./target/release/examples/bench $(FIGURE)

lint: setup-lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	scripts/deny
	scripts/shellcheck-all

sim: setup-test
	DRCM_SIM_SEEDS=$(SEEDS) $(CARGO) nextest run --locked --cargo-profile sim --profile long --no-capture --test sim -E 'test(/simulation/)'

man: setup-build
	$(CARGO) run --locked --quiet --example manual -- target/manual

# It is kept among the documents, and a test compares.
reference: man
	cp target/manual/configuration.md docs/configuration.md

# A script or example that the administrator has edited is kept; the new one is put beside it as FILE.new.
install_root: build man
	scripts/install "$(DESTDIR)" "$(UNITDIR)"

uninstall_root:
	scripts/install --remove "$(DESTDIR)" "$(UNITDIR)"

# The same sources make the same package, wherever they lie: all times in it are that of the last commit, and the programs do not say
# in which directory they were built.
package-build: setup-package man
	RUSTFLAGS="$$RUSTFLAGS --remap-path-prefix=$(CURDIR)=drcm --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo" \
		$(CARGO) build --release --locked --bins

deb: package-build
	SOURCE_DATE_EPOCH=$(COMMITTED) $(CARGO) deb --locked --no-build

rpm: package-build
	$(CARGO) generate-rpm --source-date $(COMMITTED)

# One scenario after another: a deep search takes gigabytes.
model: setup-test
	DRCM_MODEL_DEPTH=$(DEPTH) $(CARGO) test --locked --test model -- --nocapture --test-threads 1

fuzz: setup-fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz

mutants: setup-test
	scripts/mutants

fmt:
	$(CARGO) fmt

setup-build setup-demo setup-test setup-bench setup-lint setup-fuzz setup-package setup-static setup-vm: setup-%:
	@MUSL=$(MUSL) scripts/setup $*
