package benchmark

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// FarOptions describe the far end.
type FarOptions struct {
	Machines int
	// Delay is how long the far end prepares each page.
	Delay time.Duration
	// InOrder sends each row once.
	InOrder bool
}

// Far is the simulated tenant in another process: where it is and how to sign in.
type Far struct {
	URL                              string
	Authority                        []byte
	TenantID, ClientID, ClientSecret string
	Machines                         int // With a security state.
	Pages                            int // Of the preview.
}

// The scopes of the two audiences.
const (
	GraphScope = "https://graph.microsoft.com/.default"
	APIScope   = "https://api.securitycenter.microsoft.com/.default"
)

// fullPage is how many rows a full page has.
const fullPage = 10_000

// Listen starts the far end. It stops when the context ends.
func Listen(ctx context.Context, o FarOptions) (Far, error) {
	var far Far
	text, err := json.Marshal(o)
	if err != nil {
		return far, err
	}
	cmd, err := again(ctx, roleFar)
	if err != nil {
		return far, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return far, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return far, err
	}
	if err := cmd.Start(); err != nil {
		return far, fmt.Errorf("start the far end: %w", err)
	}
	context.AfterFunc(ctx, func() { reap(cmd, in) })
	if _, err := in.Write(append(text, '\n')); err != nil {
		return far, fmt.Errorf("tell the far end what to be: %w", err)
	}
	if err := json.NewDecoder(out).Decode(&far); err != nil {
		return far, fmt.Errorf("read where the far end is: %w", err)
	}
	return far, nil
}

// reap ends a process whose life is its standard input's.
func reap(cmd *exec.Cmd, in io.Closer) {
	_ = in.Close()
	_ = cmd.Wait()
}

// serveFar is the far end. It serves until nobody is left who writes to in.
func serveFar(in io.Reader, out io.Writer) error {
	var o FarOptions
	decoder := json.NewDecoder(in)
	if err := decoder.Decode(&o); err != nil {
		return fmt.Errorf("read the options: %w", err)
	}
	tenant := simulation.New(simulation.Options{
		Machines: o.Machines, PageSize: fullPage, CallLog: -1, CachePages: true, InOrder: o.InOrder, TokenLifetime: 24 * time.Hour,
	})
	if o.Delay > 0 {
		for _, api := range []simulation.API{simulation.MachineSecurityStates, simulation.Machines, simulation.DeviceAVInfo} {
			tenant.Fail(api, simulation.Fault{Delay: o.Delay})
		}
	}
	server, err := tenant.Listen(simulation.ListenOptions{TLS: true})
	if err != nil {
		return err
	}
	defer server.Close()
	far := Far{
		URL: server.APIURL, Authority: server.CertificateAuthority,
		TenantID: tenant.TenantID(), ClientID: tenant.ClientID(), ClientSecret: tenant.ClientSecret(),
	}
	for range tenant.Now().Machines() {
		far.Machines++
	}
	far.Pages = (far.Machines + fullPage - 1) / fullPage
	if err := json.NewEncoder(out).Encode(far); err != nil { //nolint:gosec // The secret is simulated.
		return err
	}
	_, err = io.Copy(io.Discard, io.MultiReader(decoder.Buffered(), in))
	return err
}

// Transport is an ordinary one that trusts the far end.
func (f Far) Transport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(f.Authority)
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return transport
}

// Client is an ordinary http.Client that signs in.
func (f Far) Client(ctx context.Context, scope string) *http.Client {
	credentials := clientcredentials.Config{
		ClientID: f.ClientID, ClientSecret: f.ClientSecret, Scopes: []string{scope},
		TokenURL: f.TokenURL(), AuthStyle: oauth2.AuthStyleInParams,
	}
	return credentials.Client(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: f.Transport()}))
}

// TokenURL is where tokens are asked for.
func (f Far) TokenURL() string { return f.URL + "/" + f.TenantID + "/oauth2/v2.0/token" }

// StatesURL is the first page of machine security states.
func (f Far) StatesURL() string { return f.URL + "/testwdatppreview/machinesecuritystates" }

// listURL is the page of a list of the Defender API that begins after skip rows.
func (f Far) listURL(name string, skip int) string {
	u := fmt.Sprintf("%s/api/%s?$top=%d", f.URL, name, fullPage)
	if skip > 0 {
		u += fmt.Sprintf("&$skip=%d", skip)
	}
	return u
}

// get asks for a page.
func get(ctx context.Context, c *http.Client, address string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
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

// linkIn finds the link to the next page in the beginning of a page.
func linkIn(head []byte) (string, error) {
	_, rest, found := bytes.Cut(head, []byte(`"@odata.nextLink":"`))
	if !found {
		return "", nil
	}
	link, _, found := bytes.Cut(rest, []byte{'"'})
	if !found {
		return "", errors.New("the link is longer than what was looked at")
	}
	_, err := url.Parse(string(link))
	return string(link), err
}
