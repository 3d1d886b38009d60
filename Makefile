# Continuous integration runs `make test`. Build results are in .build, except the
# program. Tools are installed on first use.

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

# Nested modules with their own tests.
NESTED := $(patsubst ./%/go.mod,%,$(shell find . -mindepth 2 -name go.mod -not -path './tools/*' -not -path './.build/*' -not -path '*/node_modules/*'))

# Packages with tests in real time or with servers. They run one after another.
SLOW := mde_exporter/alerts$$|/internal/(chaos|endtoend)$$

.PHONY: all
all: lint build test

.PHONY: build
build: ## build the program, ./mde_exporter
	CGO_ENABLED=0 $(GO) build -trimpath -tags netgo,osusergo -ldflags '$(LDFLAGS)' -o $(PROGRAM) .

.PHONY: test
test: lint gotest ## run lint and all tests

.PHONY: gotest
gotest: export MDE_TEST_SERVERS = required
gotest: ## run the tests of every module, including slow ones and those with servers, which a plain go test skips
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
lint: ## check formatting, vet (for Windows, too), golangci-lint, go.mod and workflow files
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
rules: ## run only the tests of the alert rules and the Alertmanager configuration, with promtool, amtool and Alertmanager
	@tools/install servers
	$(GO) test -count=1 -v -skip 'TestTenantEvents|TestDemoRules' ./alerts

.PHONY: bench
bench: ## run the benchmarks, which takes minutes; docs/performance.md has the results
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run -C benchmark .
	$(GO) test -C benchmark -run Schedule -v -long .

# Packages whose own tests must detect mutations.
MUTATION := client collector $(patsubst %/,%,$(wildcard collector/*/)) config internal/exporter internal/storage

.PHONY: mutation
mutation: ## change one operator at a time and list undetected changes; MUTATION=config for one package; takes hours
	@tools/install mutation
	tools/mutation $(MUTATION)

.PHONY: dashboards
dashboards: ## regenerate the dashboards' JSON
	$(GO) generate ./dashboards
	$(MAKE) chart

.PHONY: chart
chart: ## copy version, rules and dashboards into the Helm chart
	sed -i.bak -E 's/^(version|appVersion): .*/\1: $(VERSION)/' $(CHART)/Chart.yaml && rm $(CHART)/Chart.yaml.bak
	rm -rf $(CHART)/files && mkdir -p $(CHART)/files/alerts $(CHART)/files/dashboards
	cp alerts/*.yaml $(CHART)/files/alerts/
	cp dashboards/*.json $(CHART)/files/dashboards/

.PHONY: crossbuild
crossbuild: ## build the program for every platform of .promu.yml, in .build
	tools/crossbuild

.PHONY: packages
packages: ## build deb and rpm packages from the Linux builds of crossbuild, in .tarballs
	@tools/install packages
	tools/packages

.PHONY: sbom
sbom: ## write the software bill of materials, in .tarballs
	@mkdir -p .tarballs
	$(GO) run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0 app -json -licenses -output .tarballs/mde_exporter-$(VERSION).cdx.json .

.PHONY: mixed-fleet
mixed-fleet: ## serve 40 simulated tenants, 7 of which fail, and write the exporter's configuration for them
	$(GO) run ./internal/mixedfleet/serve

.PHONY: docker
docker: ## build the container image, mde_exporter:VERSION
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg BRANCH=$(BRANCH) -t mde_exporter:$(VERSION) .
