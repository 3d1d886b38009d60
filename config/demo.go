package config

import "slices"

// Demo describes a tenant without a file, whose hosts are a simulation on this
// very machine. What it does not name is as in a file that does not name it.
type Demo struct {
	// Name is the value of the tenant label.
	Name string
	// TenantID, ClientID and ClientSecret are the simulated app registration's.
	TenantID, ClientID, ClientSecret string
	// Endpoints are required, all three.
	Endpoints Endpoints
	// Set changes the settings of the collectors. Nil leaves the defaults.
	Set func(*Collectors)
}

// Tenant is the demo as one of the tenants of a Config. The error is Problems.
func (d Demo) Tenant(o Overrides) (*Tenant, error) {
	v := newValidator(o)
	s := newTenant(v.settings())
	if d.Set != nil {
		d.Set(&s.Collectors)
	}
	s.Name = d.Name
	s.AzureAD.OAuth = &oauthSection{TenantID: d.TenantID, ClientID: d.ClientID, ClientSecret: secret(d.ClientSecret)}
	s.Endpoints = endpointsSection{LoginURL: d.Endpoints.LoginURL, GraphURL: d.Endpoints.GraphURL, APIURL: d.Endpoints.APIURL}

	doc := &document{}
	t := v.tenant(position{doc: doc}, s)
	if problems := slices.Concat(doc.problems, v.problems); len(problems) > 0 {
		return nil, problems
	}
	return t, nil
}
