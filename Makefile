# Tools are pinned here and run with `go run`, so nothing has to be installed.
STATICCHECK      := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI_LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
PROTOC_GEN_GO    := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
PROTOC_GEN_GRPC  := google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1

PROTO        := plugins/providerpb/provider.proto

# What the program does without: HTTP/2 towards servers (docs/decisions/0007-http-1-1.md), whose place
# on the way to providers gRPC's own has, and gRPC's pages for debugging.
TAGS         := nethttpomithttp2,grpcnotrace

FUZZTIME     ?= 60s
KILLS        ?= 500
SOAK         ?= 30m
TEST_TIMEOUT ?= 20m
TEST_FLAGS   ?=

# The provider for keys on tokens is a module of its own, because it needs cgo.
PKCS11 := plugins/pkcs11cred

# The example of a provider is one, because whoever writes one has one.
EXAMPLE := examples/provider

# The workload of the Azure SDK for Go is one, so that credagent does not depend on the SDK.
AZIDENTITY := internal/sdktest/azidentity

# So is what runs the benchmarks, so that credagent does not depend on what it reads them with.
BENCHES := internal/bench

# So are the loops around Microsoft's libraries that credagent is compared with, and what compares them.
SIDEBYSIDE := internal/sidebyside

# The tests with other people's programs are one, because of the libraries among these.
WORKS_WITH := examples/works-with

# So is what judges the Kubernetes manifests, so that credagent does not depend on Kubernetes.
KUBETEST := deploy/k8s/kubetest

# The race detector needs a C compiler.
RACE := $(shell command -v "$$(go env CC)" >/dev/null 2>&1 && echo -race)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/credagent, a static binary
	CGO_ENABLED=0 go build -trimpath -tags=$(TAGS) -o bin/credagent ./cmd/credagent

.PHONY: build-pkcs11
build-pkcs11: ## build bin/credagent-provider-pkcs11cred, the provider for keys on tokens (cgo)
	cd $(PKCS11) && CGO_ENABLED=1 go build -trimpath -o $(CURDIR)/bin/ ./credagent-provider-pkcs11cred

.PHONY: demo
demo: ## show the main job against an embedded authorization server
	go run ./cmd/credagent demo

.PHONY: test
test: tools ## run all tests, with the race detector where there is a C compiler
	go test $(RACE) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...
	@played=$$(go test -count=1 -run '^TestScenarios$$' -v ./agent -scenarios 10000) \
		&& echo "$$played" | grep 'histories,' || { echo "$$played"; exit 1; }
	cd $(EXAMPLE) && go test $(RACE) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...
	cd $(BENCHES) && go test -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...
	cd $(SIDEBYSIDE) && go test $(RACE) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...
	@$(MAKE) --no-print-directory test-works-with
	@$(MAKE) --no-print-directory test-pkcs11
	@$(MAKE) --no-print-directory test-k8s

.PHONY: test-k8s
test-k8s: ## check the Kubernetes manifests, alerts and dashboard
	cd $(KUBETEST) && go test -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...

.PHONY: test-pkcs11
test-pkcs11: ## run the tests of the provider for keys on tokens, where there is a SoftHSM
	@if test -n '$(RACE)' && command -v softhsm2-util >/dev/null && command -v pkcs11-tool >/dev/null; \
		then cd $(PKCS11) && go test $(RACE) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...; \
		else echo 'no SoftHSM, OpenSC or C compiler: keys on tokens are not tested (apt-get install softhsm2 opensc gcc libc6-dev)' >&2; fi

# Without the race detector: the agent is a program of its own here, and the rest is other people's.
# Verbose, so that a consumer that is left out is seen; and many at a time, because they mostly wait.
.PHONY: test-works-with
test-works-with: ## run the tests with other people's programs
	cd $(WORKS_WITH) && go test -v -parallel 16 -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./...

.PHONY: tools
tools: ## check that what the tests need is there
	@command -v go >/dev/null || { echo 'go is missing: install Go 1.26 or newer' >&2; exit 1; }
	@command -v node >/dev/null && command -v npm >/dev/null \
		|| { echo 'node or npm is missing: install Node.js 20 or newer (apt-get install nodejs npm)' >&2; exit 1; }
	@node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' \
		|| { echo "node is $$(node --version): install Node.js 20 or newer" >&2; exit 1; }
	@command -v openssl >/dev/null || { echo 'openssl is missing: install OpenSSL 3 (apt-get install openssl)' >&2; exit 1; }
	@command -v systemd-analyze >/dev/null \
		|| echo 'systemd-analyze is missing: the units are not checked (apt-get install systemd)' >&2
	@test -n '$(RACE)' \
		|| echo 'no C compiler: testing without the race detector (apt-get install gcc libc6-dev)' >&2
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null \
		|| echo 'no Chromium: testing without a look at the status page (apt-get install chromium)' >&2

.PHONY: race
race: ## run all tests twice with the race detector, in random order
	go test -race -count=2 -shuffle=on -timeout $(TEST_TIMEOUT) ./...
	@$(MAKE) --no-print-directory test-pkcs11 TEST_FLAGS='-count=2 -shuffle=on'

.PHONY: e2e
e2e: tools e2e-systemd e2e-packages e2e-image e2e-k8s ## run the tests that start whole programs, servers and machines
	go test $(RACE) -count=1 -timeout $(TEST_TIMEOUT) ./cmd/... ./examples/... ./internal/oidctest/... ./internal/sdktest/... ./internal/pagetest/...

.PHONY: mutants
mutants: ## break the program on purpose, one place at a time, and expect tests to fail
	go test -count=1 -timeout 2h -v ./internal/mutants -mutants | grep -v '^=== '

.PHONY: scenarios
scenarios: ## play 100,000 random histories of servers, crashes, reloads and rotations
	go test -count=1 -timeout 2h -run '^TestScenarios$$' -v ./agent -scenarios 100000

# As root; what is missing is named by the tests that are skipped.
.PHONY: e2e-systemd e2e-packages e2e-image
e2e-systemd: ## try the service in a booted systemd
	E2E=1 go test -v -count=1 -timeout $(TEST_TIMEOUT) -run '^TestSystemd' ./deploy

e2e-packages: ## install, upgrade and remove the packages in a booted Debian
	E2E=1 go test -v -count=1 -timeout $(TEST_TIMEOUT) -run '^TestPackage' ./deploy

e2e-image: ## build the container image and run it
	E2E=1 go test -v -count=1 -timeout $(TEST_TIMEOUT) -run '^TestImage' ./deploy

.PHONY: crash
crash: ## kill the agent KILLS times while it writes and others read
	go test -count=1 -v -timeout 1h -run '^TestKilledAgent$$' ./internal/resilience -args -kills $(KILLS) -writes 10000

.PHONY: soak
soak: ## keep 1,000 tokens for SOAK against a hostile server
	go test -count=1 -v -timeout 0 -run '^TestSoak$$' ./internal/resilience -args -soak $(SOAK)

.PHONY: e2e-k8s
e2e-k8s: ## try the manifests in a cluster; as root, and Kubernetes is built once
	cd $(KUBETEST) && E2E=1 go test -v -count=1 -timeout 60m -run '^TestCluster$$' ./...

ROUNDS ?= 5
BENCH  ?= .

# All of them, with what has no baseline too, are run by go test -bench.
.PHONY: bench bench-compare bench-record
bench: ## measure credagent beside what is simpler; BENCH chooses, ROUNDS are medians of
	@go run -C $(BENCHES) . -only '$(BENCH)' -rounds $(ROUNDS)

bench-compare: ## measure, and say what has become worse since the last release by more than noise
	@go run -C $(BENCHES) . -only '$(BENCH)' -rounds $(ROUNDS) -compare

bench-record: ## measure, and record it for the comparisons and in docs/performance.md
	@go run -C $(BENCHES) . -only '$(BENCH)' -rounds $(ROUNDS) -record

.PHONY: side-by-side
side-by-side: ## compare credagent with loops around MSAL and azidentity; takes a quarter of an hour
	@cd $(SIDEBYSIDE) && go run .

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file target; do \
		go test -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; \
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
	go vet ./...
	cd $(EXAMPLE) && go vet ./...
	cd $(WORKS_WITH) && go vet ./...
	$(if $(RACE),cd $(PKCS11) && go vet ./...)
	cd $(AZIDENTITY) && go vet ./...
	cd $(SIDEBYSIDE) && go vet ./...
	cd $(KUBETEST) && go vet ./...
	cd $(BENCHES) && go vet ./...

.PHONY: staticcheck
staticcheck: ## run staticcheck
	go run $(STATICCHECK) ./...
	cd $(EXAMPLE) && go run $(STATICCHECK) ./...
	cd $(WORKS_WITH) && go run $(STATICCHECK) ./...
	$(if $(RACE),cd $(PKCS11) && go run $(STATICCHECK) ./...)
	cd $(AZIDENTITY) && go run $(STATICCHECK) ./...
	cd $(SIDEBYSIDE) && go run $(STATICCHECK) ./...
	cd $(KUBETEST) && go run $(STATICCHECK) ./...
	cd $(BENCHES) && go run $(STATICCHECK) ./...

.PHONY: lint
lint: ## run golangci-lint
	go run $(GOLANGCI_LINT) run ./...

.PHONY: tidy
tidy: ## tidy go.mod and go.sum
	go mod tidy
	cd $(EXAMPLE) && go mod tidy
	cd $(WORKS_WITH) && go mod tidy
	cd $(PKCS11) && go mod tidy
	cd $(BENCHES) && go mod tidy
	cd $(SIDEBYSIDE) && go mod tidy

.PHONY: tidy-check
tidy-check: ## check that go.mod and go.sum are tidy
	go mod tidy -diff
	cd $(EXAMPLE) && go mod tidy -diff
	cd $(WORKS_WITH) && go mod tidy -diff
	cd $(PKCS11) && go mod tidy -diff
	cd $(AZIDENTITY) && go mod tidy -diff
	cd $(SIDEBYSIDE) && go mod tidy -diff
	cd $(KUBETEST) && go mod tidy -diff
	cd $(BENCHES) && go mod tidy -diff

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

# protoc starts its plugins by itself, so they have to be files.
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
release-check: ## make the release twice, all compiled anew, and compare
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
	CGO_ENABLED=0 go build -trimpath -tags=$(TAGS) -ldflags='-s -w -funcalign=16' -o bin/credagent.stripped ./cmd/credagent
	@ls -l bin/credagent.stripped | awk '{ printf "%.1f MiB\n", $$5 / 1048576 }'

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
