# Tools are pinned here and run with `go run`, so you install nothing.
STATICCHECK      := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI_LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
PROTOC_GEN_GO    := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GRPC  := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1

PROTO        := plugins/providerpb/provider.proto

# The tags leave out net/http's HTTP/2 (docs/decisions/0007-http-1-1.md; gRPC brings its own for the
# providers) and gRPC's debugging pages. They are set only in deploy/tags, which every go command below
# uses, so that tests run with what is shipped. Only the module test is compiled without them: its code
# stands in for third-party servers, which support HTTP/2. The program that it tests is built with them.
TAGS         := $(shell cat deploy/tags)
GIVEN        := $(GOFLAGS)
export GOFLAGS += -tags=$(TAGS)
TESTGO       := GOFLAGS='$(GIVEN)' go -C test

FUZZTIME     ?= 60s
KILLS        ?= 500
SOAK         ?= 30m
TEST_TIMEOUT ?= 20m
TEST_FLAGS   ?=

# The race detector needs a C compiler.
RACE := $(shell command -v "$$(go env CC)" >/dev/null 2>&1 && echo -race)

# The provider for keys on tokens needs cgo, so it is a separate module.
PKCS11 := plugins/pkcs11cred

# All modules, the program's first. Each example is a module, as the code of someone who writes a provider or embeds the
# agent would be. The suites and the benchmarks have many dependencies that the program must not have.
MODULES := . $(PKCS11) examples/provider examples/embed test bench

# Those that can be compiled here.
COMPILED := $(if $(RACE),$(MODULES),$(filter-out $(PKCS11),$(MODULES)))

# each runs a command in each of the given modules, and stops at the first failure.
each = @for module in $(1); do echo "$$module: $(strip $(2))"; (cd "$$module" && { test "$$module" != test || export GOFLAGS='$(GIVEN)'; } && $(2)) || exit 1; done

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/credagent, a static binary
	CGO_ENABLED=0 go build -trimpath -o bin/credagent ./cmd/credagent

.PHONY: build-pkcs11
build-pkcs11: ## build bin/credagent-provider-pkcs11cred, the provider for keys on tokens (cgo)
	cd $(PKCS11) && CGO_ENABLED=1 go build -trimpath -o $(CURDIR)/bin/ ./credagent-provider-pkcs11cred

.PHONY: demo
demo: ## show the main job against an embedded authorization server
	go run ./cmd/credagent demo

.PHONY: test
test: test-notice tools ## run all tests, with the race detector where there is a C compiler
	$(call each,$(COMPILED),go test $(RACE) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...)
	@played=$$(go test -count=1 -run '^TestScenarios$$' -v ./agent -scenarios 10000) \
		&& echo "$$played" | grep 'histories,' || { echo "$$played"; exit 1; }

.PHONY: test-notice
test-notice:
	@echo 'about ten minutes on two cores; the first time a few more, as Go modules and npm packages are downloaded and compiled'

.PHONY: test-k8s
test-k8s: ## check the Kubernetes manifests, alerts and dashboard
	$(TESTGO) test $(RACE) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./kubetest

.PHONY: test-pkcs11
test-pkcs11: ## run the tests of the provider for keys on tokens
	@.ci/install pkcs11
	go -C $(PKCS11) test $(RACE) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...

# Verbose, to show which consumers were tested, and highly parallel, because the tests mostly wait.
.PHONY: test-works-with
test-works-with: ## run the tests with third-party programs
	@.ci/install works-with
	$(TESTGO) test $(RACE) -v -parallel 16 -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./workswith

.PHONY: tools
tools: ## check that what the tests need is installed, and name what some are skipped without
	@.ci/install --check test
	@.ci/install --name test-more

.PHONY: race
race: ## run all tests twice with the race detector, in random order
	@.ci/install test pkcs11
	$(call each,$(MODULES),go test -race -count=2 -shuffle=on -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...)

.PHONY: e2e
e2e: e2e-systemd e2e-packages e2e-image e2e-k8s ## run the tests that start whole programs, servers and machines
	@.ci/install test test-more
	go test $(RACE) -count=1 -timeout $(TEST_TIMEOUT) ./cmd/... ./testkit/oidctest
	$(TESTGO) test $(RACE) -count=1 -timeout $(TEST_TIMEOUT) ./canary ./examples ./pagetest ./resilience ./sdktest ./workswith

.PHONY: mutants
mutants: ## break the program on purpose, one place at a time, and expect tests to fail
	$(TESTGO) test -count=1 -timeout 2h -v ./mutants -mutants

.PHONY: scenarios
scenarios: ## play 100,000 random histories of servers, crashes, reloads and rotations
	go test -count=1 -timeout 2h -run '^TestScenarios$$' -v ./agent -scenarios 100000

# Run these as root on Debian; they first install what they need, as in CI. E2E=1 enables the tests.
.PHONY: e2e-systemd e2e-packages e2e-init e2e-image
e2e-systemd: ## test the service in a booted systemd
	@.ci/install e2e-systemd
	E2E=1 $(TESTGO) test -v -count=1 -timeout $(TEST_TIMEOUT) -run '^TestSystemd' ./deploy

e2e-packages: ## install, upgrade and remove the packages in a booted Debian
	@.ci/install e2e-packages
	E2E=1 $(TESTGO) test -v -count=1 -timeout $(TEST_TIMEOUT) -run '^TestPackage' ./deploy

e2e-init: ## run the README's steps to a first token, in an empty booted Debian
	@.ci/install e2e-packages
	E2E=1 $(TESTGO) test -v -count=1 -timeout $(TEST_TIMEOUT) -run '^TestPackageFirstToken$$' ./deploy

e2e-image: ## build the container image and run it
	@.ci/install e2e-image
	E2E=1 $(TESTGO) test -v -count=1 -timeout $(TEST_TIMEOUT) -run '^TestImage' ./deploy

.PHONY: crash
crash: ## kill the agent KILLS times while it writes and others read
	$(TESTGO) test -count=1 -v -timeout 1h -run '^TestKilledAgent$$' ./resilience -args -kills $(KILLS) -writes 10000

.PHONY: soak
soak: ## keep 1,000 tokens for SOAK against a hostile server
	$(TESTGO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./resilience -args -soak $(SOAK)

.PHONY: e2e-k8s
e2e-k8s: ## test the manifests in a cluster; as root, and builds Kubernetes once
	@.ci/install e2e-k8s
	E2E=1 $(TESTGO) test -v -count=1 -timeout 60m -run '^TestCluster$$' ./kubetest

ROUNDS ?= 5
BENCH  ?= .

# go test -bench runs all of them, including those without a baseline.
.PHONY: bench bench-compare bench-record
bench: ## measure credagent against simpler programs; BENCH selects, ROUNDS sets the rounds for a median
	@go run -C bench . -only '$(BENCH)' -rounds $(ROUNDS)

bench-compare: ## measure, and report what has become worse since the last release by more than noise
	@go run -C bench . -only '$(BENCH)' -rounds $(ROUNDS) -compare

bench-record: ## measure, and record it for the comparisons and in docs/performance.md
	@go run -C bench . -only '$(BENCH)' -rounds $(ROUNDS) -record

.PHONY: side-by-side
side-by-side: ## compare credagent with loops around MSAL and azidentity; takes a quarter of an hour
	@cd bench/sidebyside && go run .

# Each runs in its own directory, and so in its module.
.PHONY: fuzz
fuzz: ## run each fuzz target of every module for FUZZTIME
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file target; do \
		go -C "$$(dirname "$$file")" test -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME) . || exit 1; \
	done

.PHONY: check
check: fmt-check vet staticcheck tidy-check generate-check ## all checks that need no configuration

.PHONY: fmt
fmt: ## format the code
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

.PHONY: fmt-check
fmt-check: ## check that the code is formatted
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
		test -z "$$unformatted" || { echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; } >&2

.PHONY: vet
vet: ## run go vet
	$(call each,$(COMPILED),go vet ./...)

.PHONY: staticcheck
staticcheck: ## run staticcheck
	$(call each,$(COMPILED),go run $(STATICCHECK) ./...)

.PHONY: lint
lint: ## run golangci-lint
	$(call each,$(COMPILED),go run $(GOLANGCI_LINT) run --config $(CURDIR)/.golangci.yml ./...)

.PHONY: tidy
tidy: ## tidy go.mod and go.sum
	$(call each,$(MODULES),go mod tidy)

.PHONY: tidy-check
tidy-check: ## check that go.mod and go.sum are tidy
	$(call each,$(MODULES),go mod tidy -diff)

.PHONY: generate
generate: bin/protoc-gen-go bin/protoc-gen-go-grpc ## generate the Go code of the provider protocol
	@command -v protoc >/dev/null || { echo 'protoc is missing: apt-get install protobuf-compiler' >&2; exit 1; }
	$(call protoc,.)

.PHONY: generate-check
generate-check: ## check that generated code is up to date, where protoc is installed
	@if command -v protoc >/dev/null; then $(MAKE) --no-print-directory generate-diff; \
		else echo 'protoc is missing: generated code is not checked (apt-get install protobuf-compiler)' >&2; fi

.PHONY: generate-diff
generate-diff: bin/protoc-gen-go bin/protoc-gen-go-grpc
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call protoc,"$$fresh") && \
		for file in provider.pb.go provider_grpc.pb.go; do \
			diff -u -I 'protoc  *v[0-9]' $(dir $(PROTO))$$file "$$fresh"/$(dir $(PROTO))$$file \
				|| { echo 'generated code is old: run make generate' >&2; exit 1; }; \
		done

define protoc
protoc --plugin=bin/protoc-gen-go --plugin=bin/protoc-gen-go-grpc \
	--go_out=$(1) --go_opt=paths=source_relative \
	--go-grpc_out=$(1) --go-grpc_opt=paths=source_relative $(PROTO)
endef

# protoc starts its plugins itself, so they have to be files.
bin/protoc-gen-go: Makefile
	GOBIN=$(CURDIR)/bin go install $(PROTOC_GEN_GO)

bin/protoc-gen-go-grpc: Makefile
	GOBIN=$(CURDIR)/bin go install $(PROTOC_GEN_GRPC)

.PHONY: release
release: ## make archives, packages, the image, bills of materials, notes and checksums of this commit in dist
	rm -rf dist
	deploy/release.sh all dist
	@if command -v buildah >/dev/null; then deploy/image.sh dist && deploy/release.sh sums dist; \
		else echo 'no buildah: the release has no container image (apt-get install buildah)' >&2; fi

.PHONY: release-check
release-check: ## make the release twice, without the build cache, and compare
	deploy/release.sh check

.PHONY: image
image: ## make packages and the container image alone
	rm -rf dist
	deploy/release.sh packages dist
	deploy/image.sh dist
	deploy/release.sh sums dist

.PHONY: diagrams
diagrams: ## draw the diagrams of the documents, docs/images/*.svg
	go run ./docs/images docs/images

.PHONY: size
size: ## show how large a stripped binary is
	@mkdir -p bin
	deploy/release.sh binary "$$(go env GOARCH)" bin/credagent.stripped
	@ls -l bin/credagent.stripped | awk '{ printf "%.1f MiB\n", $$5 / 1048576 }'

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
