package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/shard"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// tenantSources provides the tenants: those of the file, or else of the environment,
// and the demo.
type tenantSources struct {
	flags *flags
	demo  *config.Tenant // Nil without --demo.
}

// load loads the current configuration with the tenants of --tenant or, without that
// flag, of the shard.
func (s *tenantSources) load() (*config.Config, error) {
	c, err := s.read()
	if err != nil {
		return nil, err
	}
	if s.demo != nil {
		for _, t := range c.Tenants {
			if t.Name == s.demo.Name {
				return nil, fmt.Errorf("--demo: the configuration also has a tenant %q", t.Name)
			}
		}
		c.Tenants = append(c.Tenants, s.demo)
	}
	if len(s.flags.tenants) > 0 {
		return s.selected(c)
	}
	mine := &config.Config{}
	for _, t := range c.Tenants {
		if shard.Of(t.Name, s.flags.totalShards) == s.flags.shard {
			mine.Tenants = append(mine.Tenants, t)
		}
	}
	return mine, nil
}

// selected returns the tenants of --tenant.
func (s *tenantSources) selected(c *config.Config) (*config.Config, error) {
	named := &config.Config{}
	for _, name := range s.flags.tenants {
		i := slices.IndexFunc(c.Tenants, func(t *config.Tenant) bool { return t.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("--tenant: %s has no tenant %q", s.name(), name)
		}
		if !slices.Contains(named.Tenants, c.Tenants[i]) {
			named.Tenants = append(named.Tenants, c.Tenants[i])
		}
	}
	return named, nil
}

func (s *tenantSources) read() (*config.Config, error) {
	if s.flags.configFile != "" {
		return config.Load(s.flags.configFile, s.flags.overrides)
	}
	c, err := config.FromEnvironment(os.Getenv, s.flags.endpoints, s.flags.overrides)
	switch {
	case errors.Is(err, config.ErrNoEnvironment) && s.demo != nil:
		return &config.Config{}, nil
	case errors.Is(err, config.ErrNoEnvironment):
		return nil, fmt.Errorf("no tenants: set --config.file, or use --demo; %w", err)
	}
	return c, err
}

// keepDemoLocal makes the program listen on loopback if the demo is the only tenant and
// --web.listen-address is not given.
func (s *tenantSources) keepDemoLocal() {
	if s.demo == nil || s.flags.configFile != "" || s.flags.listenAddressGiven {
		return
	}
	if _, err := config.FromEnvironment(os.Getenv, s.flags.endpoints, s.flags.overrides); errors.Is(err, config.ErrNoEnvironment) {
		*s.flags.web.WebListenAddresses = []string{"127.0.0.1:" + defaultPort}
	}
}

// name describes where the tenants come from.
func (s *tenantSources) name() string {
	switch {
	case s.flags.configFile != "":
		return s.flags.configFile
	case s.demo != nil:
		return "the demo"
	default:
		return "the environment"
	}
}

// demoTenant has short intervals, so that data appears within a minute. They stay below
// the call quota.
const demoTenant = `tenants:
- name: demo
  azuread: {oauth: {tenant_id: %q, client_id: %q, client_secret: %q}}
  endpoints: {login_url: %q, graph_url: %q, api_url: %q}
  security_states: {refresh_interval: 15s, tags: [VIP, Kiosk, Tier 0, Pilot ring]}
  watched_domains:
    refresh_interval: 40s
    domains: [%s]
    lists: [{name: c2, refresh_interval: 20s, domains: [%s]}]
    statistics: true
    machine_info_limit: 5
    device_groups: true
  scores: {enabled: true, refresh_interval: 30s}
  alerts: {enabled: true, refresh_interval: 15s}
`

// startDemo serves a simulated tenant on a loopback address and adds it to the tenants.
func (s *tenantSources) startDemo() (stop func(), err error) {
	o := simulation.Demo()
	if s.flags.demoSource == string(client.Machines) {
		o.PreviewStatus = 404
	}
	simulated := simulation.New(o)
	server, err := simulated.Listen(simulation.ListenOptions{})
	if err != nil {
		return nil, fmt.Errorf("--demo: %w", err)
	}
	urgent := simulation.DemoUrgentDomains()
	others := slices.DeleteFunc(simulation.DemoDomains(), func(name string) bool { return slices.Contains(urgent, name) })
	c, err := config.Parse(fmt.Sprintf(demoTenant, simulated.TenantID(), simulated.ClientID(), simulated.ClientSecret(),
		server.LoginURL, server.GraphURL, server.APIURL, strings.Join(others, ", "), strings.Join(urgent, ", ")), s.flags.overrides)
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("--demo: %w", err)
	}
	s.demo = c.Tenants[0]
	return server.Close, nil
}
