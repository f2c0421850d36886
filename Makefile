.PHONY: help demo test bench check package audit dashboard-picture clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

demo: ## see it work: installs what it needs, builds, runs; leaves the machine as it was
	scripts/install-deps demo
	cargo build --release --locked
	target/release/portway demo

test: ## everything: formatting, lints, licences, fuzz targets that compile, unit, namespace and VM tests
	scripts/install-deps test
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo nextest run --locked

bench: ## measure side by side with the alternatives; JSON lines in target/bench
	scripts/install-deps bench
	cargo bench --locked --bench portway

check: test ## what CI runs

package: ## the Debian package of a release, what is linked into it (SBOM), and its licences, in target/package
	scripts/package

clean: ## remove everything built
	cargo clean

audit: ## known vulnerabilities, by the RustSec database (needs the network; builds cargo-deny once)
	cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny check

dashboard-picture: ## pictures of the Grafana dashboard in docs/images, of a fleet that runs for three minutes (needs npm and Node.js 20)
	scripts/install-deps test
	PORTWAY_BOARD_SECONDS=160 cargo test --locked --test dashboards -- every_panel_shows_something_of_a_fleet_at_work
	cd dashboards/picture && npm ci && npm run picture
