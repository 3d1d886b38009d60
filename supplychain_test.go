package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestImagesAndActionsArePinned(t *testing.T) {
	workflows, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		files          []string
		names, pinned  *regexp.Regexp
		minimumOfNames int
	}{
		{
			files:          workflows,
			names:          regexp.MustCompile(`(?m)uses: .*$`),
			pinned:         regexp.MustCompile(`^uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`),
			minimumOfNames: 10,
		},
		{
			files:          []string{"Dockerfile", "deploy/compose/compose.yaml"},
			names:          regexp.MustCompile(`(?m)(^FROM|image:) .*$`),
			pinned:         regexp.MustCompile(`(:[\w.-]+@sha256:[0-9a-f]{64}( AS \w+)?|^FROM scratch|^image: mde_exporter:.*)$`),
			minimumOfNames: 6,
		},
	} {
		n := 0
		for _, file := range c.files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range c.names.FindAllString(string(content), -1) {
				n++
				if !c.pinned.MatchString(name) {
					t.Errorf("%s: not pinned: %s", file, name)
				}
			}
		}
		if n < c.minimumOfNames {
			t.Errorf("%q: only %d images or actions", c.files, n)
		}
	}
}

func TestDependabotUpdatesAllModules(t *testing.T) {
	content, err := os.ReadFile(".github/dependabot.yml")
	if err != nil {
		t.Fatal(err)
	}
	var dependabot struct {
		Updates []struct {
			PackageEcosystem string `yaml:"package-ecosystem"`
			Directories      []string
		}
	}
	if err := yaml.Unmarshal(content, &dependabot); err != nil {
		t.Fatal(err)
	}
	var modules []string
	for _, pattern := range []string{"go.mod", "*/go.mod", "*/*/go.mod"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			modules = append(modules, filepath.Join("/", filepath.Dir(file)))
		}
	}
	for _, update := range dependabot.Updates {
		if update.PackageEcosystem == "gomod" {
			slices.Sort(modules)
			slices.Sort(update.Directories)
			if diff := cmp.Diff(modules, update.Directories); diff != "" {
				t.Errorf("modules (-repository +dependabot.yml):\n%s", diff)
			}
			return
		}
	}
	t.Error("dependabot.yml has no gomod update")
}

func TestNoticesHaveAllLicences(t *testing.T) {
	notices, err := exec.CommandContext(t.Context(), "tools/notices").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const rule = "==============================================================================\n"
	sections := map[string]string{}
	parts := strings.Split(string(notices), rule)
	for i := 1; i+1 < len(parts); i += 2 {
		sections[strings.TrimSpace(parts[i])] = parts[i+1]
	}
	permissive := regexp.MustCompile(`(?i)Apache License|Permission is hereby granted, free of charge|Redistribution and use in source and binary forms`)
	for module := range strings.Lines(string(deps)) {
		if module = strings.TrimSpace(module); module != "" && !permissive.MatchString(sections[module]) {
			t.Errorf("no permissive licence for %s", module)
		}
	}
}
