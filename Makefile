# Two commands do everything: `make run` and `make test`. `make help` lists the others.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Models, virtual environments and other things that are fetched once live outside the checkout.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/samovar-dev
MODELS := $(CACHE)/models
STARTER := $(MODELS)/SmolLM2-135M-Instruct.Q4_1.gguf
GEMMA := $(MODELS)/gemma-3-270m-q4_k_m.gguf
ENCODER := $(MODELS)/all-MiniLM-L6-v2.f32.gguf
# An environment for each list of clients in tests/clients; a new list makes a new one.
LISTED = $(CACHE)/$(1)-$(shell cksum < tests/clients/$(2) | cut -d' ' -f1)
CLIENTS := $(call LISTED,clients,requirements/python.txt)
CLIENTS_FRAMEWORKS := $(call LISTED,clients-frameworks,requirements/frameworks.txt)
CLIENTS_INSTRUCTOR := $(call LISTED,clients-instructor,requirements/instructor.txt)
CLIENTS_NPM := $(call LISTED,clients-npm,npm/package-lock.json)
CLIENTS_OPENCODE := $(call LISTED,clients-opencode,opencode/package-lock.json)
API_TOOLS := $(CACHE)/api-tools-$(shell cksum < tests/api/requirements.txt | cut -d' ' -f1)
PEERS := $(CACHE)/peers-$(shell cksum < src-tauri/dev/peers/requirements.txt | cut -d' ' -f1)
NOISE := $(CACHE)/noise-$(shell cksum < src-tauri/dev/peers/noise-requirements.txt | cut -d' ' -f1)
ANSWERS := $(CACHE)/answers-$(shell cksum < tests/answers/requirements.txt | cut -d' ' -f1)
REFERENCE := $(CACHE)/reference-0.3.36
JINJA := $(CACHE)/jinja-$(shell cksum < src-tauri/dev/templates/requirements.txt | cut -d' ' -f1)
# Each is a model's shape and how many layers it is cut to: together they take 12 GB.
SYNTHETIC_SHAPES := llama-1b-16 qwen3-0.6b-28 qwen3-30b-a3b-6 gpt-oss-20b-4 gemma-4-e4b-12 glm-4.7-flash-6 qwen3.5-4b-8
SYNTHETIC := $(SYNTHETIC_SHAPES:%=$(MODELS)/synthetic-%.gguf)
# The one with recurrent layers, a vocabulary and a chat template.
RECURRENT := $(MODELS)/synthetic-qwen3.5-4b-8.gguf
LLAMA_SERVER := $(CACHE)/llama-server-$(shell cat src-tauri/dev/fetch-llama-cpp.sh src-tauri/dev/peers/llama-server.sh | cksum | cut -d' ' -f1)
KV_TEXT ?= $(CACHE)/texts/debian-faq.txt
PORT ?= 8642
MINUTES ?= 30
N ?= 200
SEED ?= 1
SEEDS ?= 100
# Some hundred kilobytes of English that the system brings.
TEXT ?= $(or $(wildcard /usr/share/common-licenses/*),$(wildcard $(shell rustc --print sysroot)/share/doc/*/*))

export PATH := $(PATH):$(HOME)/.cargo/bin
export SAMOVAR_TEST_MODELS := $(MODELS)
export SAMOVAR_TEST_REFERENCE := $(REFERENCE)

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/^([a-z0-9-]+):.*## /  make \1|/' | column -t -s '|'

# The window's page, which the server's build script puts into the binary.
UI_FILES := $(shell find ui -name node_modules -prune -o -name dist -prune -o -type f -print)

.PHONY: ui
ui: ui/dist/.built ## Build the window's page
ui/node_modules/.installed: ui/package-lock.json ui/package.json ui/.npmrc | setup-server
	cd ui && npm ci --loglevel=error
	touch $@
ui/dist/.built: ui/node_modules/.installed $(UI_FILES)
	cd ui && npm run --silent build
	touch $@

# A Mac always has a screen.
SCREEN := $(or $(filter Darwin,$(shell uname -s)),$(DISPLAY),$(WAYLAND_DISPLAY))
define QUESTION
@printf '\nWhen it is ready, ask it something from another terminal:\n\n'
@printf '  curl http://127.0.0.1:%s/v1/chat/completions -H "Content-Type: application/json" \\\n' $(PORT)
@printf '    -d '\''{"messages":[{"role":"user","content":"What is the capital of Japan?"}]}'\''\n\n'
endef

.PHONY: run run-desktop run-server
run: $(if $(SCREEN),run-desktop,run-server) ## Build Samovar and start it with the starter model: the app, or the server where there is no screen
run-desktop: setup models-starter ui ## The app with its tray and window
	cargo build --release --locked --features desktop
	@printf '\nSamovar is in the tray: choose Open Chat there. Without a tray its window opens.\n'
	$(QUESTION)
	@SAMOVAR_PORT=$(PORT) SAMOVAR_MODEL=$(STARTER) exec target/release/samovar
run-server: setup-server models-starter ui ## The server alone
	cargo build --release --locked
	$(QUESTION)
	@exec target/release/samovar serve --port $(PORT) --model $(STARTER)

# A small model with recurrent layers, and what makes checkpoints of their state be written while it is killed.
WITH_STATES := target/recurrent.gguf
KILL_WITH_STATES := python3 tests/kill/kill.py --model $(WITH_STATES) --kv-pool 2MiB --rest 10 --drains 0.3 --reread 3

# What each part of `make test` took is printed at its end, also when a part has failed.
TIMED = src-tauri/dev/timed.sh target/test-minutes.txt

# Starts the binary and runs the clients' scripts: the official Python clients, those for Node, and codex.
CLIENTS_RUN = python3 tests/clients/run.py --starter $(STARTER) --encoder $(ENCODER) --python $(CLIENTS) --npm $(CLIENTS_NPM)

.PHONY: test test-parts
test: ## Run every test
	@rm -f target/test-minutes.txt
	@code=0; $(MAKE) --no-print-directory test-parts || code=$$?; $(TIMED); exit $$code
test-parts: setup-test models reference $(CLIENTS)/ready $(CLIENTS_NPM)/ready
	@$(TIMED) check $(MAKE) --no-print-directory check
	@$(TIMED) 'cargo test' cargo test --workspace --locked
	@$(TIMED) 'without features' cargo test --workspace --no-default-features --locked --test e2e -- a_build_without_the_desktop
	@$(TIMED) 'official clients' $(CLIENTS_RUN) --bin target/debug/samovar
	@$(TIMED) kill python3 tests/kill/kill.py --bin target/debug/samovar --model $(STARTER) --kills 10
	@python3 tests/support/recurrent_model.py --words $(STARTER) $(WITH_STATES)
	@$(TIMED) 'kill: recurrent' $(KILL_WITH_STATES) --bin target/debug/samovar --kills 6
	@$(TIMED) soak python3 tests/soak/soak.py --bin target/debug/samovar --model $(STARTER) --minutes 1.5
	@$(TIMED) 'page: units' npm --prefix ui run --silent test
	@$(TIMED) 'page: browser' npm --prefix ui run --silent test:browser

.PHONY: api-test
api-test: setup-test $(API_TOOLS)/ready ## Send thousands of calls, sound and unsound, to every route (about 5 minutes)
	cargo build --workspace --locked --example scripted_server
	$(API_TOOLS)/bin/python tests/api/run.py --server target/debug/examples/scripted_server

DESKTOP_RUN := python3 tests/desktop/run.py --bin target/debug/samovar --model $(STARTER)

.PHONY: desktop-test screenshots
desktop-test: setup-desktop models-starter ui ## Lint and test the app, and drive its real window and the tray's menu (Linux)
	cargo clippy --all-targets --locked --features desktop -- -D warnings
	cargo test --locked --features desktop --bin samovar
	cargo build --locked --features desktop
	$(DESKTOP_RUN)
screenshots: setup-desktop models-starter ui ## Take pictures of the real window in every state, light and dark (Linux)
	cargo build --locked --features desktop
	$(DESKTOP_RUN) --screenshots docs/images

.PHONY: deb icons
deb: setup ui ## Make a Debian package of the app
	npx --yes @tauri-apps/cli@2.12.5 build --bundles deb --features desktop \
	  --config '{"build": {"beforeBundleCommand": "strip --strip-debug $(CURDIR)/target/release/samovar"}}'
icons: ## Draw the icons again from their SVG sources
	src-tauri/dev/icons.py

.PHONY: check
check: setup-server ui ## Formatting, lints, types and house rules
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --quiet -p tidy --locked
	cargo metadata --quiet --locked --format-version 1 --manifest-path src-tauri/fuzz/Cargo.toml > /dev/null
	cd ui && npm run --silent check

.PHONY: setup setup-server setup-test setup-desktop
setup:
	@src-tauri/dev/setup.sh build
setup-server:
	@src-tauri/dev/setup.sh server
setup-test:
	@src-tauri/dev/setup.sh test
setup-desktop:
	@src-tauri/dev/setup.sh desktop

.PHONY: models models-starter
models: setup-server ## Fetch and verify the test models
	@src-tauri/dev/fetch-models.sh $(MODELS) all
models-starter: setup-server
	@src-tauri/dev/fetch-models.sh $(MODELS) starter

.PHONY: reference
reference: setup-server ## Fetch and verify the vocabularies and chat templates that the reference carries
	@src-tauri/dev/fetch-reference.sh $(REFERENCE)

.PHONY: clients
clients: setup-server models $(CLIENTS)/ready $(CLIENTS_NPM)/ready $(CLIENTS_FRAMEWORKS)/ready $(CLIENTS_INSTRUCTOR)/ready $(CLIENTS_OPENCODE)/ready ## Test with all clients: official ones, frameworks' and agents, offline
	cargo build --release --locked
	$(CLIENTS_RUN) --bin target/release/samovar --frameworks $(CLIENTS_FRAMEWORKS) --instructor $(CLIENTS_INSTRUCTOR) --opencode $(CLIENTS_OPENCODE)

# A folder's name is made of its list's content; the list's time says nothing, it is new in every checkout.
$(CLIENTS)/ready: LIST := tests/clients/requirements/python.txt
$(CLIENTS_FRAMEWORKS)/ready: LIST := tests/clients/requirements/frameworks.txt
$(CLIENTS_INSTRUCTOR)/ready: LIST := tests/clients/requirements/instructor.txt
$(CLIENTS)/ready $(CLIENTS_FRAMEWORKS)/ready $(CLIENTS_INSTRUCTOR)/ready: | setup-server
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(LIST)
	touch $@
$(CLIENTS_NPM)/ready: LIST := tests/clients/npm
$(CLIENTS_OPENCODE)/ready: LIST := tests/clients/opencode
# `npm ci` wants every platform's package of opencode in the list, which the registry may not have.
$(CLIENTS_OPENCODE)/ready: NPM_INSTALL := install
$(CLIENTS_NPM)/ready: NPM_INSTALL := ci
$(CLIENTS_NPM)/ready $(CLIENTS_OPENCODE)/ready: | setup-server
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $(LIST)/package.json $(LIST)/package-lock.json $(@D)
	npm $(NPM_INSTALL) --prefix $(@D) --no-audit --no-fund --loglevel=error
	touch $@

# What `make api-test` sends with.
$(API_TOOLS)/ready: tests/api/requirements.txt | setup
	rm -rf $(API_TOOLS)
	python3 -m venv $(API_TOOLS)
	$(API_TOOLS)/bin/pip install --quiet --disable-pip-version-check -r tests/api/requirements.txt
	touch $@

.PHONY: kernels-aarch64
kernels-aarch64: ## Test the Arm kernels under emulation (Debian; slow)
	@src-tauri/dev/setup.sh aarch64
	src-tauri/crates/kernels/aarch64-test.sh matmul

.PHONY: screenshots-web
screenshots-web: setup-test models-starter ui ## Picture every state of the page in Chromium, light and dark
	cargo build --locked
	cd ui && SAMOVAR_SCREENSHOTS=../target/screenshots npx vitest run --project browser looks

.PHONY: mac-check dmg
mac-check: ## Type-check and lint for macOS, and test what makes the app (Debian 12)
	@src-tauri/dev/setup.sh mac
	src-tauri/dev/mac/check.sh $(CACHE)

dmg: ui ## Make the signed disk image and its verifier's report (a Mac, or Debian 12)
	@src-tauri/dev/setup.sh mac
	src-tauri/dev/mac/dmg.sh $(CACHE) dist

.PHONY: families
families: export SAMOVAR_TEST_ALL := 1
families: export SAMOVAR_TEST_RENDERINGS := $(CURDIR)/target/renderings
families: setup-server reference models $(JINJA)/ready ## Test with all of the reference's vocabularies and templates, of which `make test` takes a tenth
	cargo test --locked -p text
	$(JINJA)/bin/python src-tauri/dev/templates/templates.py check target/renderings

# Python's Jinja, which chat templates are written for.
$(JINJA)/ready: src-tauri/dev/templates/requirements.txt | setup
	rm -rf $(JINJA)
	python3 -m venv $(JINJA)
	$(JINJA)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: soak
soak: setup-server models-starter ## Load the server for MINUTES (30) with disconnects, drains and resumes
	cargo build --release --locked
	python3 tests/soak/soak.py --bin target/release/samovar --model $(STARTER) --minutes $(MINUTES)

.PHONY: kill-test
kill-test: setup models-starter ## Kill the server N (200) times under load, on a recurrent model too, and look whether anything was lost
	cargo build --release --locked
	python3 tests/kill/kill.py --bin target/release/samovar --model $(STARTER) --kills $(N) --seed $(SEED)
	python3 tests/support/recurrent_model.py --words $(STARTER) $(WITH_STATES)
	$(KILL_WITH_STATES) --bin target/release/samovar --kills $(N) --seed $(SEED)

.PHONY: answers
answers: setup models-starter $(ANSWERS)/ready ## Count right answers without any sampling parameter over SEEDS (100), and beside llama.cpp
	cargo build --release --locked
	$(ANSWERS)/bin/python tests/answers/answers.py --bin target/release/samovar --model $(STARTER) --seeds $(SEEDS) --reference

# llama.cpp as a prebuilt wheel: what it answers matters here, not how fast.
$(ANSWERS)/ready: tests/answers/requirements.txt | setup
	rm -rf $(ANSWERS)
	python3 -m venv $(ANSWERS)
	$(ANSWERS)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: fuzz
fuzz: MINUTES = 10
fuzz: setup ## Fuzz the readers of segments, manifests, model files, vocabularies, schemas, chat templates, answers and requests, MINUTES (10) each
	src-tauri/dev/fuzz.sh $(MINUTES)

.PHONY: bench
bench: setup-server models $(RECURRENT) ## Print what batching, chunked prefill, the engine itself and keeping KV on disk cost here
	cargo build --release --locked
	target/release/samovar bench --model $(STARTER) --capacity $(GEMMA) --data-dir target/bench-data \
	  --json target/bench.json
	cat $(TEXT) > target/bench-text.txt
	target/release/samovar bench-store --model $(STARTER) --text target/bench-text.txt \
	  --data-dir target/bench-data --json target/bench-store.json
	target/release/samovar bench-store --model $(GEMMA) --text target/bench-text.txt \
	  --sizes 1000,2000,4000,8000,16000 --data-dir target/bench-data --json target/bench-store-gemma.json
	target/release/samovar bench-store --model $(RECURRENT) --text target/bench-text.txt --parts restores,checkpoints \
	  --sizes 1000,2000,4000,8000,16000 --data-dir target/bench-data --json target/bench-store-recurrent.json

.PHONY: bench-kv
bench-kv: setup-server models $(KV_TEXT) ## Print what keys and values in 8 and 4 bits cost in perplexity and save in bytes
	cargo build --release --locked
	for model in $(STARTER) $(GEMMA); do target/release/samovar bench --model $$model --kv-quality $(KV_TEXT) \
	  --json target/bench-kv-$$(basename $$model .gguf).json; done
	cargo build --release --locked -p model --example kv_perplexity
	for model in deepseek2 deepseek2-groups deepseek2-lite; do target/release/examples/kv_perplexity --texts 32 \
	  src-tauri/crates/model/tests/families/$$model.gguf; done

$(CACHE)/texts/debian-faq.txt: src-tauri/dev/fetch-text.sh
	$< $@

# llama.cpp is built for this very processor, which takes some twenty minutes the first time.
.PHONY: bench-peers
bench-peers: setup models $(PEERS)/ready $(LLAMA_SERVER)/llama-server $(SYNTHETIC) ## Measure beside llama.cpp and its server: same file, same threads, in turn
	cargo build --release --locked -p model --example forward_bench
	$(PEERS)/bin/python src-tauri/dev/peers/peers.py --ours target/release/examples/forward_bench \
	  --json target/bench-peers.json --models $(STARTER) $(GEMMA) $(SYNTHETIC)
	cargo build --release --locked
	mkdir -p target/bench-data
	$(PEERS)/bin/python src-tauri/dev/peers/conversations.py --ours target/release/samovar --theirs $(LLAMA_SERVER)/llama-server \
	  --model $(RECURRENT) --data-dir target/bench-data --json target/bench-conversations.json

$(PEERS)/ready: src-tauri/dev/peers/requirements.txt | setup
	rm -rf $(PEERS)
	python3 -m venv $(PEERS)
	CMAKE_ARGS=-DGGML_NATIVE=ON $(PEERS)/bin/pip install --quiet --disable-pip-version-check --no-binary llama-cpp-python -r $<
	touch $@

$(LLAMA_SERVER)/llama-server: | setup
	src-tauri/dev/peers/llama-server.sh $(@D)

# Noise in the shapes of models that people run: for timing only.
$(SYNTHETIC): $(MODELS)/synthetic-%.gguf: src-tauri/dev/peers/synthetic_gguf.py | $(NOISE)/ready reference
	stem=$*; $(NOISE)/bin/python $< $@ --model $${stem%-*} --layers $${stem##*-} \
	  --reference $(REFERENCE)

$(NOISE)/ready: src-tauri/dev/peers/noise-requirements.txt | setup-server
	rm -rf $(NOISE)
	python3 -m venv $(NOISE)
	$(NOISE)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: clean
clean: ## Remove what was built (not the models)
	cargo clean
