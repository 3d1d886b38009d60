# `make test` is what continuous integration runs. What a target builds is in
# .build, but for the program itself. Tools are installed on first use.

GO      ?= go
SHELL   := bash
BIN     := $(CURDIR)/.build/bin
RESULTS := $(CURDIR)/.build/test
CHART   := deploy/helm/mde-exporter
export PATH := $(PATH):$(BIN)

PROGRAM  ?= mde_exporter
VERSION  := $(shell cat VERSION)
REVISION := $(shell git rev-parse HEAD 2>/dev/null)
BRANCH   := $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)
STAMP    := github.com/prometheus/common/version
LDFLAGS  := -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Revision=$(REVISION) -X $(STAMP).Branch=$(BRANCH)

# The modules beside the main one that have tests of their own.
NESTED := $(patsubst ./%/go.mod,%,$(shell find . -mindepth 2 -name go.mod -not -path './tools/*' -not -path './.build/*' -not -path '*/node_modules/*'))

# Packages whose tests keep to real time or start servers, one after the other.
SLOW := mde_exporter/alerts$$|/internal/(chaos|endtoend)$$

.PHONY: all
all: lint build test

.PHONY: build
build: ## the program, ./mde_exporter
	CGO_ENABLED=0 $(GO) build -trimpath -tags netgo,osusergo -ldflags '$(LDFLAGS)' -o $(PROGRAM) .

.PHONY: test
test: lint gotest ## everything

.PHONY: gotest
gotest: export MDE_TEST_SERVERS = required
gotest: ## the tests of every module, with those that take long or start servers, which go test alone skips
	@tools/install test
	@tools/install servers
	@tools/install chart
	@tools/install packages
	@tools/install browser
	@mkdir -p $(RESULTS) && rm -f $(RESULTS)/*.json
	@code=0; \
	run() { gotestsum --format $${format:-pkgname} --jsonfile $(RESULTS)/$$1.json -- -race -shuffle=on -timeout 20m "$${@:2}" || code=1; }; \
	run fast $$($(GO) list ./... | grep -vE '$(SLOW)'); \
	format=testname run slow -p 1 $$($(GO) list ./... | grep -E '$(SLOW)'); \
	for module in $(NESTED); do echo "module $$module"; cd $(CURDIR)/$$module && run $${module//[.\/]/_} ./...; done; \
	$(CURDIR)/tools/skips $(CURDIR)/.ci/skips $(RESULTS)/*.json || code=1; \
	exit $$code

.PHONY: lint
lint: ## format, vet (for Windows, too), golangci-lint, tidiness of go.mod, workflow files
	@tools/install lint
	@unformatted=$$(gofmt -l .); [[ -z $$unformatted ]] || { echo "not formatted by gofmt:" $$unformatted; exit 1; }
	$(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	GOOS=windows CGO_ENABLED=0 $(GO) build -o /dev/null .
	golangci-lint run ./...
	$(GO) mod tidy -diff
	@for module in $(NESTED); do \
	  echo "module $$module"; \
	  ( cd $$module && $(GO) vet ./... && $(GO) mod tidy -diff ) || exit; \
	done
	actionlint

.PHONY: rules
rules: export MDE_TEST_SERVERS = required
rules: ## of these tests, those of the alert rules and the Alertmanager configuration: promtool and amtool
	@tools/install servers
	$(GO) test -count=1 -v -run 'TestRules|TestAlertmanager' ./alerts

.PHONY: bench
bench: ## the benchmarks, some minutes; docs/performance.md has the results
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run -C benchmark .
	$(GO) test -C benchmark -run Schedule -v -long .

# Packages of which a changed line must fail a test of their own.
MUTATION := client collector $(patsubst %/,%,$(wildcard collector/*/)) config internal/exporter internal/storage

.PHONY: mutation
mutation: ## changes one operator at a time and lists what no test notices; MUTATION=config for one package; hours
	@tools/install mutation
	tools/mutation $(MUTATION)

.PHONY: dashboards
dashboards: ## write the dashboards' JSON anew
	$(GO) generate ./dashboards
	$(MAKE) chart

.PHONY: chart
chart: ## copy version, rules and dashboards into the Helm chart, which reads no file outside of itself
	sed -i.bak -E 's/^(version|appVersion): .*/\1: $(VERSION)/' $(CHART)/Chart.yaml && rm $(CHART)/Chart.yaml.bak
	rm -rf $(CHART)/files && mkdir -p $(CHART)/files/alerts $(CHART)/files/dashboards
	cp alerts/*.yaml $(CHART)/files/alerts/
	cp dashboards/*.json $(CHART)/files/dashboards/

.PHONY: crossbuild
crossbuild: ## the program for every platform of .promu.yml, in .build
	tools/crossbuild

.PHONY: packages
packages: ## deb and rpm of what crossbuild built for Linux, in .tarballs
	@tools/install packages
	tools/packages

.PHONY: sbom
sbom: ## what the program is built from, in .tarballs
	@mkdir -p .tarballs
	$(GO) run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 app -json -licenses -output .tarballs/mde_exporter-$(VERSION).cdx.json .

.PHONY: mixed-fleet
mixed-fleet: ## serve 40 simulated tenants, 7 of which fail, and write the exporter's configuration for them
	$(GO) run ./internal/mixedfleet/serve

.PHONY: docker
docker: ## the container image, mde_exporter:VERSION
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg BRANCH=$(BRANCH) -t mde_exporter:$(VERSION) .
