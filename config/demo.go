package config

import (
	"slices"
	"time"

	"github.com/prometheus/common/model"
)

// Demo describes a tenant without a file, whose hosts are a simulation on this
// very machine. What it does not name is as in a file that does not name it.
type Demo struct {
	// Name is the value of the tenant label.
	Name string
	// TenantID, ClientID and ClientSecret are the simulated app registration's.
	TenantID, ClientID, ClientSecret string
	// Endpoints are required, all three.
	Endpoints Endpoints
	// SecurityStatesInterval and WatchedDomainsInterval are the refresh
	// intervals; 0 means the default.
	SecurityStatesInterval, WatchedDomainsInterval time.Duration
	// Domains are watched, Statistics asks for their prevalence, and so many
	// machines of each are named.
	Domains          []string
	Statistics       bool
	MachineInfoLimit int
}

// Tenant is the demo as one of the tenants of a Config. The error is Problems.
func (d Demo) Tenant(o Overrides) (*Tenant, error) {
	settings := defaultSettings()
	if d.SecurityStatesInterval != 0 {
		settings.SecurityStates.RefreshInterval = model.Duration(d.SecurityStatesInterval)
	}
	if d.WatchedDomainsInterval != 0 {
		settings.WatchedDomains.RefreshInterval = model.Duration(d.WatchedDomainsInterval)
	}
	settings.WatchedDomains.Domains = d.Domains
	settings.WatchedDomains.Statistics = d.Statistics
	settings.WatchedDomains.MachineInfoLimit = d.MachineInfoLimit

	s := defaultTenant(settings)
	s.Name = d.Name
	s.AzureAD.OAuth = &oauthSection{TenantID: d.TenantID, ClientID: d.ClientID, ClientSecret: secret(d.ClientSecret)}
	s.Endpoints = endpointsSection{LoginURL: d.Endpoints.LoginURL, GraphURL: d.Endpoints.GraphURL, APIURL: d.Endpoints.APIURL}

	doc := &document{}
	v := newValidator(o)
	t := v.tenant(position{doc: doc}, s, watchList{})
	if problems := slices.Concat(doc.problems, v.problems); len(problems) > 0 {
		return nil, problems
	}
	return t, nil
}
