# What is installed by whom: Go modules by go, the speech model and its library
# by npm (see models/manifest.yaml), the peers of make e2e by apt-get. Nothing
# else is needed.

GO      ?= go
BIN     := bin/callwarden
CORPUS  ?= ../shared/corpora
FUZZTIME ?= 30s
BUF     := $(GO) tool -modfile=tools.mod buf
PEERS   := sip-tester baresip tshark iproute2 python3-grpcio protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
# Firefox plays into calls only where there is a sound server.
BROWSERS := chromium firefox-esr pulseaudio
# Tests with the tag e2e: those that need telephones or a browser of others.
E2E     := ./cmd/internal/e2e ./cmd/internal/browsertest ./cmd/internal/trypage ./cmd/internal/desk/desktest
# What says whether a page can be used by everybody, from npm.
AXE     := axe-core@4.14.1
# Protocols of other people's servers, each beside the backend that speaks it.
FOREIGN := transcribe/voskserver/voskpb transcribe/riva/rivapb
# Where things run side by side, and so are tested with the race detector. Under
# it the arithmetic on audio takes four times as long: make race has it on all.
RACED   := ./pipeline/... ./proto/... ./transcribe/... ./cmd/internal/board ./cmd/internal/caller ./cmd/internal/desk
PLAIN   := /transcribe/audio$$|/transcribe/vosk$$
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: bench-remote help demo test race e2e peers browser axe check lint fuzz bench bench-browser bench-desk bench-live eval-band train-band eval eval-gate eval-screen train-talk calibrate proto proto-check models build clean

help: ## this list
	@echo "callwarden: make TARGET"
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: models ## hear six recorded calls, watch their events arrive over NATS
	@testdata/demo.sh $(BIN)

test: models proto-check ## everything that CI runs
	@$(BIN) models install libsherpa-onnx
	$(GO) build ./...
	$(GO) vet ./...
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 12m $$($(GO) list $(RACED) | grep -Ev '$(PLAIN)')
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -run 'Burst|List|Engine' ./transcribe/vosk
	$(GO) test -shuffle=on -timeout 12m $$($(GO) list ./... | grep -vxF "$$($(GO) list $(RACED) | grep -Ev '$(PLAIN)')")
	@$(MAKE) --no-print-directory e2e

race: models ## every test with the race detector: half an hour
	@$(BIN) models install libsherpa-onnx
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 30m ./...

e2e: models peers browser axe ## calls by sipp and baresip give the findings of replay; tshark reads what we send; Chromium and Firefox show the pages
	CALLWARDEN_BINARY=$(CURDIR)/$(BIN) CALLWARDEN_SHOTS=$(CURDIR)/out/shots $(GO) test -tags e2e -count=1 -p 2 -timeout 8m $(E2E)

# Tools that are missing are installed, as root or by sudo; that they cannot be
# is an error.
peers:
	@for tool in sipp baresip tshark ip protoc grpc_python_plugin; do \
		command -v $$tool >/dev/null && continue; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PEERS) >/dev/null || \
			{ echo "make e2e: $$tool is missing; type: sudo apt-get install $(PEERS)" >&2; exit 3; }; \
		break; \
	done

axe:
	@[ -s out/axe/node_modules/axe-core/axe.min.js ] || { mkdir -p out/axe && \
		npm install --silent --no-save --ignore-scripts --no-audit --no-fund --prefix out/axe $(AXE); } || \
		{ echo "make axe: axe-core is missing; type: npm install --prefix out/axe $(AXE)" >&2; exit 3; }

# Where the browser's sandbox cannot be had, as for root in a container, it is
# left out: only pages of our own are opened.
browser:
	@for tool in chromium firefox-esr pulseaudio; do \
		command -v $$tool >/dev/null && continue; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(BROWSERS) >/dev/null || \
			{ echo "make browser: $$tool is missing; type: sudo apt-get install $(BROWSERS)" >&2; exit 3; }; \
		break; \
	done

check: lint test ## test, and lint before it

lint: ## golangci-lint with .golangci.yml
	CGO_ENABLED=1 $(GO) run $(GOLANGCI) run ./...

fuzz: ## each fuzz target for FUZZTIME (30s)
	@$(GO) list -f '{{range .TestGoFiles}}{{$$.Dir}}/{{.}} {{end}}{{range .XTestGoFiles}}{{$$.Dir}}/{{.}} {{end}}' ./... | xargs -n1 | \
	xargs grep -Ho '^func Fuzz[A-Za-z0-9_]*' | sed 's/:func / /' | while read -r file target; do \
		echo "== $$target"; \
		$(GO) test "$$(dirname "$$file")" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x || exit 1; \
	done

bench: models ## benchmarks, among them what surrounds the recogniser against libvosk itself
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-live: build ## a thousand calls over SIPREC: packets, processor time and memory of callwarden
	$(BIN) bench live

bench-browser: models browser ## how long after the words the page of a browser has what is found in them, ten calls at once
	CALLWARDEN_BINARY=$(CURDIR)/$(BIN) $(GO) test -tags e2e -run '^$$' -bench WordsToPage -benchtime 1x -timeout 20m ./cmd/internal/trypage

# SOAK=10m watches memory for longer.
bench-desk: browser ## the desk's page in Chromium with 300 live calls: event to pixels, frames, first paint, memory
	$(GO) test -tags e2e -run '^$$' -bench . -benchtime 1x -timeout 2h ./cmd/internal/desk/desktest -soak $(or $(SOAK),1m)

bench-remote: models ## what hearing in another process costs, how many legs each way holds, what kill -9 under 50 calls loses
	$(GO) run ./cmd/internal/hopeval --hop
	$(GO) run ./cmd/internal/hopeval --kill --calls 50
	$(GO) run ./cmd/internal/hopeval --kill --calls $(or $(LIVE),20) --live

# CALLS=FILE adds a manifest of whole calls, LIMIT=0 hears all clips of each set.
eval-band: models ## word error rates by line and filling of the telephone band, with a page
	@mkdir -p out/band/calls
	RATE=16000 BAND=none OUT=out/band/calls testdata/calls/render.sh testdata/calls/*.txt
	$(GO) run ./cmd/internal/bandeval --corpus $(CORPUS) --spoken out/band/calls --out out/band/index.html \
		$(if $(CALLS),--calls $(CALLS)) $(if $(LIMIT),--limit $(LIMIT))

# SPEECH="FOLDER …" adds folders of 16 kHz speech, WAV or FLAC.
train-band: ## the net that puts back what a telephone takes away, trained again
	cmd/internal/bandtrain/speech.sh out/speech
	$(GO) run ./cmd/internal/bandtrain --out transcribe/audio/extend/band.net \
		$(CORPUS)/wideband/an4 out/speech/it out/speech/fr out/speech/ru $(SPEECH)

eval-gate: models ## what the voice activity gate lets through, and word error rates with and without it
	$(GO) run ./cmd/internal/gateeval --corpus $(CORPUS)

eval: build ## frauds found and honest calls disturbed, on the scripted calls as text
	@for set in development test; do \
		echo "== $$set"; $(BIN) eval testdata/eval/$$set.jsonl --mode text --report out/eval/$$set || exit 1; \
	done

train-talk: ## the opinion of a call's talk, trained again on the scripted calls
	$(GO) run ./cmd/internal/talktrain --out detectors/talk/model.tsv testdata/eval/development.jsonl

calibrate: ## what the opinion should weigh, by calls of authors that its model has not read
	$(GO) run ./cmd/internal/talktrain --calibrate testdata/eval/development.jsonl

eval-screen: models ## what the closed list hears in frauds and in honest speech, at what cost, and spoken codes
	$(GO) run ./cmd/internal/screeneval --against-open $(foreach part,calls speech wideband digits,$(CORPUS)/$(part)/manifest.jsonl)

proto: ## generate Go from proto/, if nothing breaks for those who use it, and take its image for the next time
	$(BUF) lint
	$(BUF) breaking --against proto/released.binpb
	$(BUF) generate
	$(BUF) build --exclude-source-info -o proto/released.binpb
	@for dir in $(FOREIGN); do $(BUF) generate $$dir --template buf.peers.yaml || exit 1; done

proto-check: ## the generated Go is what proto/ says, and nothing in it breaks what was released
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(BUF) lint && $(BUF) breaking --against proto/released.binpb && \
	$(BUF) generate -o "$$tmp" && $(BUF) build --exclude-source-info -o "$$tmp/proto/released.binpb" && \
	for dir in $(FOREIGN); do $(BUF) generate $$dir --template buf.peers.yaml -o "$$tmp" && diff -r -x '*.proto' $$dir "$$tmp/$$dir" || exit 1; done && \
	diff -r -x '*.proto' -x '*_test.go' -x callclient proto "$$tmp/proto" || { echo "proto: generated code is not current; type: make proto" >&2; exit 1; }

models: build ## install the speech model and its library
	@$(BIN) models install

build:
	@$(GO) build -o $(BIN) ./cmd/callwarden

clean: ## remove what make has built; installed models stay
	rm -rf bin out
