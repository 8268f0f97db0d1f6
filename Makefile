# Two commands do everything: `make run` and `make test`. `make help` lists the others.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Models, virtual environments and other things that are fetched once live outside the checkout.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/samovar-dev
MODELS := $(CACHE)/models
STARTER := $(MODELS)/SmolLM2-135M-Instruct.Q4_1.gguf
GEMMA := $(MODELS)/gemma-3-270m-q4_k_m.gguf
CLIENTS := $(CACHE)/clients-$(shell cksum < tests/clients/requirements.txt 2>/dev/null | cut -d' ' -f1)
PORT ?= 8642

export PATH := $(PATH):$(HOME)/.cargo/bin
export SAMOVAR_TEST_MODELS := $(MODELS)

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

.PHONY: run
run: setup models-starter ## Build Samovar and start it with the starter model
	cargo build --release --locked
	@printf '\nWhen it says "ready", ask it something from another terminal:\n\n'
	@printf '  curl http://127.0.0.1:%s/v1/chat/completions -H "Content-Type: application/json" \\\n' $(PORT)
	@printf '    -d '\''{"messages":[{"role":"user","content":"What is the capital of France?"}]}'\''\n\n'
	@exec target/release/samovar serve --port $(PORT) --model $(STARTER)

.PHONY: test
test: setup-test models check $(CLIENTS)/ready ## Run every test
	cargo test --workspace --locked
	$(CLIENTS)/bin/python tests/clients/run.py --bin target/debug/samovar --model $(STARTER)

.PHONY: check
check: setup ## Formatting, lints and house rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --quiet -p tidy --locked

.PHONY: setup setup-test
setup:
	@src-tauri/dev/setup.sh build
setup-test:
	@src-tauri/dev/setup.sh test

.PHONY: models models-starter
models: setup ## Fetch and verify both test models
	@src-tauri/dev/fetch-models.sh $(MODELS) all
models-starter: setup
	@src-tauri/dev/fetch-models.sh $(MODELS) starter

# The official clients that the server is tested with; a new list makes a new environment.
$(CLIENTS)/ready: tests/clients/requirements.txt | setup
	rm -rf $(CLIENTS)
	python3 -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	touch $@

.PHONY: clean
clean: ## Remove what was built (not the models)
	cargo clean
