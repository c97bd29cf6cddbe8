# Everything a person does with annulus. `make run` and `make test` work on a fresh Debian or Ubuntu with rustup and a
# C compiler: as root they install what is missing, otherwise they name it.

SEEDS ?= 100000
KILLS ?= 200
MINUTES ?= 60
SECONDS ?= 60
.PHONY: run cluster test test-epoll check kernels docs docs-test bench attacks crash faults soak drivers sim fuzz sanitize screenshot dist packaging setup-run setup-cluster setup-test clean

# All services, and behind the gateway a shop of 22 fake microservices.
run: setup-run
	cargo build --release --package annulus --package annulus-bench
	@bash .ci/run-all

# Two nodes of everything around Redis, PostgreSQL and an S3 store of their own, all on this machine.
cluster: setup-cluster
	cargo build --release --package annulus --package annulus-bench
	@bash .ci/run-cluster

test: setup-test
	bash .ci/test

# The same where io_uring is kept from all programs, as most containers do it.
test-epoll: setup-test
	ANNULUS_WITHOUT_IO_URING=1 bash .ci/test

# Formatting, lints, documentation, and what we depend on, as CI sees them.
check:
	cargo fmt --all --check
	cargo clippy --workspace $(CARGO_FLAGS) --all-targets --quiet -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace $(CARGO_FLAGS) --no-deps --quiet
	bash .ci/deny

# The reference of all our crates, and where the guides are.
docs:
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace $(CARGO_FLAGS) --no-deps --quiet
	@echo "reference: target/doc/annulus_engine/index.html, and beside it the other crates"
	@echo "guides:    README.md says which; they are in workloads/docs/"

# Runs what README.md and the guides tell people to type, each document in a network and a folder of its own. As root, or where
# the kernel grants networks to others.
docs-test: setup-test
	cargo build --release --package annulus --package annulus-bench $(CARGO_FLAGS)
	cargo test --package annulus-engine --test documents --quiet
	.ci/docs-test

# Whether the GPU's kernels are what their source says: compiles it with NVIDIA's compiler, which needs no GPU.
kernels: setup-test
	@test -d target/tools/nvrtc || workloads/tests/clients/.venv/bin/pip install --quiet --disable-pip-version-check \
	  --target target/tools/nvrtc nvidia-cuda-nvrtc-cu12==12.4.127
	.ci/gpu-kernels --check target/tools/nvrtc

# A short version of everything beside peers, into bench/results/DATE/. Some five minutes.
bench:
	cargo build --release --package annulus --examples --bins
	cargo build --release --package annulus-bench
	ANNULUS_BENCH_BIN=$(CURDIR)/target/release ./target/release/annulus-bench suite

# Attacks on all services, each with the promise that bounds it. Some six minutes; fails when one is broken.
attacks:
	cargo build --release --package annulus --package annulus-bench
	ANNULUS_BENCH_BIN=$(CURDIR)/target/release ./target/release/annulus-bench attacks > bench/results/attacks.txt; \
	  status=$$?; cat bench/results/attacks.txt; exit $$status

# The chat, then the image service, killed at random moments under load: make crash KILLS=200
crash:
	cargo build --release --package annulus --package annulus-bench
	./target/release/annulus-bench chat --case crash --kills $(KILLS) --check
	./target/release/annulus-bench image --case crash --kills $(KILLS) --check

# Real faults, each with what became of every promise, into bench/results/faults.txt. Some ten minutes. As root: small disks,
# networks of their own and limits of memory are not for everybody; what cannot be done is named.
faults: setup-test
	cargo build --release --package annulus --package annulus-bench
	ANNULUS_BENCH_BIN=$(CURDIR)/target/release ./target/release/annulus-bench faults --out bench/results/faults.txt

# All three services under mixed load, and whether anything grows: make soak MINUTES=60. bench/results/soak.txt is written anew
# every ten seconds, so it may stay in the background.
soak:
	cargo build --release --package annulus --package annulus-bench
	ANNULUS_BENCH_BIN=$(CURDIR)/target/release ./target/release/annulus-bench soak --minutes $(MINUTES) \
	  --out bench/results/soak.txt

# What an operation costs on io_uring and on epoll, into bench/results/drivers.txt.
drivers:
	cargo build --release --package annulus --examples --bins
	cargo build --release --package annulus-bench
	ANNULUS_BENCH_BIN=$(CURDIR)/target/release ./target/release/annulus-bench drivers --rounds 7 \
	  >bench/results/drivers.txt && cat bench/results/drivers.txt

# Simulated schedules of the engine; then simulated lives of the gateway, a tenth as many, and of the chat, a hundredth as
# many, each with several lives of the process: make sim SEEDS=100000
sim:
	cargo run --release --package annulus-engine --example sim -- --seeds $(SEEDS)
	cargo run --release --package annulus --example gateway_lives -- --seeds $$(($(SEEDS) / 10)) >/dev/null
	cargo run --release --package annulus --example chat_lives -- --seeds $$(($(SEEDS) / 100)) >/dev/null

# The picture of the console that the README shows, after five minutes of load: workloads/docs/console.png.
screenshot: setup-test
	cargo build --release --package annulus --package annulus-bench
	bash .ci/screenshot

# A release into target/dist: archive, package of Debian, what debuggers want, and sums. The same commit makes the same bytes.
dist: setup-run
	cargo build --release --locked --package annulus
	bash workloads/packaging/dist

# Whether container, units, profile, alerts and dashboard fit what is built; what cannot be tried here is named.
packaging:
	cargo build --release --package annulus
	bash .ci/packaging

# Every fuzz target of protocols and services from its committed corpus: make fuzz SECONDS=60. The first build of the services for
# the fuzzer takes some ten minutes of a processor.
fuzz:
	bash .ci/fuzz $(SECONDS) protocols workloads

# Wrong uses of memory, found while they happen: AddressSanitizer and Valgrind. What cannot run here is said.
sanitize:
	bash .ci/sanitize

setup-run:
	@bash .ci/setup run

setup-cluster:
	@bash .ci/setup cluster

setup-test:
	@bash .ci/setup test

clean:
	cargo clean
