package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// The sources of security states.
const (
	preview  = "machinesecuritystates"
	machines = "machines"
)

// lists are the lists of each source, in the order of reading.
var lists = map[string][]string{preview: {preview}, machines: {"deviceavinfo", machines}}

// The scopes of the two audiences.
const (
	graphScope = "https://graph.microsoft.com/.default"
	apiScope   = "https://api.securitycenter.microsoft.com/.default"
)

// fullPage is the number of rows of a full page.
const fullPage = 10_000

// simulatedTenant is the address and credential of the tenant that this process
// simulates. It is passed to the measured processes as JSON.
type simulatedTenant struct {
	URL                              string
	Authority                        []byte
	TenantID, ClientID, ClientSecret string
	Machines                         int                 // Machines with a security state.
	Pages                            map[string][]string // URLs of the pages by list, in order.
}

type tenantOptions struct {
	machines int
	source   string
	// delay is the response time of each page of the preview.
	delay time.Duration
}

// serve starts the simulated tenant and reads the lists of the source once, so that all
// pages are cached before the measurement.
func serve(ctx context.Context, o tenantOptions) (f *simulatedTenant, stop func(), err error) {
	tenant := simulation.New(simulation.Options{
		Machines: o.machines, PageSize: fullPage, CallLog: -1, CachePages: true, TokenLifetime: 24 * time.Hour,
	})
	tenant.Change(makeIrregular)
	server, err := tenant.Listen(simulation.ListenOptions{TLS: true})
	if err != nil {
		return nil, nil, err
	}
	f = &simulatedTenant{
		URL: server.APIURL, Authority: server.CertificateAuthority,
		TenantID: tenant.TenantID(), ClientID: tenant.ClientID(), ClientSecret: tenant.ClientSecret(),
		Pages: make(map[string][]string),
	}
	for range tenant.Now().Machines() {
		f.Machines++
	}
	for _, list := range lists[o.source] {
		if err := f.walk(ctx, list); err != nil {
			server.Close()
			return nil, nil, fmt.Errorf("list %s: %w", list, err)
		}
	}
	if o.delay > 0 {
		tenant.Fail(simulation.MachineSecurityStates, simulation.Fault{Delay: o.delay})
	}
	return f, server.Close, nil
}

// makeIrregular sets a random build, revision and set of properties, so that rows are
// not similar. The states of 1,000,000 machines then are 34 MB compressed.
func makeIrregular(m *simulation.Machine) {
	if m.Build != 0 {
		m.Build = 10_000 + int(m.Chance("build")*16)*613
		m.Revision = m.Build % 4099
	}
	for _, property := range []string{
		simulation.EdrImpairedCommunications, simulation.AntivirusOff, simulation.AntivirusNotReporting,
		simulation.AntivirusDefinitionsOutdated, simulation.AntivirusEngineOutdated, simulation.AntivirusPlatformOutdated,
		"ConfigurationOutOfDate", "TamperProtectionOff",
	} {
		if m.Chance(property) < 0.10 {
			m.Require(property)
		}
	}
}

// walk records the URLs of a list's pages.
func (f *simulatedTenant) walk(ctx context.Context, list string) error {
	c := f.client(ctx, f.transport(), list)
	first := fmt.Sprintf("%s/api/%s?$top=%d", f.URL, list, fullPage)
	if list == preview {
		first = f.URL + "/testwdatppreview/machinesecuritystates"
	}
	for address := first; address != ""; {
		f.Pages[list] = append(f.Pages[list], address)
		var page struct {
			NextLink string     `json:"@odata.nextLink"`
			Value    []struct{} `json:"value"`
		}
		if err := getJSON(ctx, c, address, &page); err != nil {
			return err
		}
		address = page.NextLink
		if list != preview && len(page.Value) == fullPage {
			address = fmt.Sprintf("%s&$skip=%d", first, len(f.Pages[list])*fullPage)
		}
	}
	return nil
}

// transport returns a default transport that trusts the simulated tenant.
func (f *simulatedTenant) transport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(f.Authority)
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return transport
}

// client returns a default http.Client that signs in.
func (f *simulatedTenant) client(ctx context.Context, transport *http.Transport, list string) *http.Client {
	scope := apiScope
	if list == preview {
		scope = graphScope
	}
	credentials := clientcredentials.Config{
		ClientID: f.ClientID, ClientSecret: f.ClientSecret, Scopes: []string{scope},
		TokenURL: f.tokenURL(), AuthStyle: oauth2.AuthStyleInParams,
	}
	return credentials.Client(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: transport}))
}

// tokenURL returns the URL of the token endpoint.
func (f *simulatedTenant) tokenURL() string { return f.URL + "/" + f.TenantID + "/oauth2/v2.0/token" }

// get requests a page. An encoding, if not empty, is left to the caller to decode.
func get(ctx context.Context, c *http.Client, address, encoding string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	response, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil, errors.New(response.Status)
	}
	return response, nil
}

func getJSON(ctx context.Context, c *http.Client, address string, v any) error {
	response, err := get(ctx, c, address, "")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	return json.NewDecoder(response.Body).Decode(v)
}
