package client

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExplainNormalizesCauses(t *testing.T) {
	refused := func(near string) error {
		return &net.OpError{Op: "read", Net: "tcp", Err: errors.New(near + "->192.0.2.1:443: connection reset by peer")}
	}
	tests := []struct {
		name   string
		errors []error
		cause  string
		remedy string // A part of the remedy.
	}{
		{
			name: "an expired secret of two apps",
			errors: []error{
				&Error{API: Token, Reason: ReasonAuth, Status: 401, Message: "app '11111111-1111-4111-8111-111111111111'", advice: "create a new secret"},
				fmt.Errorf("security states: %w", &Error{API: Token, Reason: ReasonAuth, Status: 401, Message: "app '22222222-2222-4222-8222-22222222abCD'", advice: "create a new secret"}),
			},
			cause: "HTTP 401: app '…'", remedy: "create a new secret",
		},
		{
			name: "a refused connection of two APIs",
			errors: []error{
				&Error{API: Machines, Reason: ReasonNetwork, Message: "no connection", Err: syscall.ECONNREFUSED},
				fmt.Errorf("2 of 3 domains, the first of them evil.example: %w", &Error{API: DomainMachines, Reason: ReasonNetwork, Message: "no connection", Err: syscall.ECONNREFUSED}),
			},
			cause: "no connection: connection refused", remedy: "nothing accepts connections there",
		},
		{
			name: "a broken connection, with different local addresses",
			errors: []error{
				&Error{API: Machines, Reason: ReasonNetwork, Message: "broken", Err: refused("10.0.0.1:40001")},
				&Error{API: Machines, Reason: ReasonNetwork, Message: "broken", Err: refused("[fe80::1]:40002")},
			},
			cause: "broken: read tcp: …192.0.2.1:443: connection reset by peer", remedy: "check the firewall",
		},
		{
			name: "a tenant without the API, with different names",
			errors: []error{
				&Error{API: Token, Status: 400, Message: "AADSTS500011: The resource principal named https://api.example was not found in the tenant named Contoso Ltd. This can happen"},
				&Error{API: Token, Status: 400, Message: "AADSTS500011: The resource principal named https://api.example was not found in the tenant named Fabrikam. This can happen"},
			},
			cause: "HTTP 400: AADSTS500011: The resource principal named https://api.example was not found in the tenant named …. This can happen",
		},
		{
			name: "an expired certificate, with different dates",
			errors: []error{
				errors.New("certificate_path: the certificate in /secrets/customer-0.pem expired on 2026-01-31: put a new one there"),
				errors.New("certificate_path: the certificate in /secrets/customer-1.pem expired on 2025-12-01: put a new one there"),
			},
			cause: "certificate_path: the certificate in /secrets/….pem expired on …: put a new one there",
		},
		{
			name: "a lookup that hangs, with different durations",
			errors: []error{
				&Error{API: DomainMachines, Reason: ReasonTimeout, Message: "no response for 35s"},
				&Error{API: DomainMachines, Reason: ReasonTimeout, Message: "no response for 1m5s"},
			},
			cause: "no response …", remedy: "no response in time",
		},
		{
			name: "a pause of the sign-in host, with different durations",
			errors: []error{
				pauseError(Token, "the sign-in host", 8*time.Minute),
				pauseError(Token, "the sign-in host", 479*time.Second),
			},
			cause: "the sign-in host asked to wait for …",
		},
		{
			name: "an app that is missing in two directories",
			errors: []error{
				&Error{API: Token, Reason: ReasonAuth, Message: "AADSTS700016: Application was not found in the directory 'Contoso Ltd'.", advice: "check the API's tenant_id"},
				&Error{API: Token, Reason: ReasonAuth, Message: "AADSTS700016: Application was not found in the directory 'Fabrikam'.", advice: "check the API's tenant_id"},
			},
			cause: "AADSTS700016: Application was not found in the directory '…'.", remedy: "check the API's tenant_id",
		},
		{
			name: "files named after their tenants",
			errors: []error{
				&Error{API: Token, Reason: ReasonAuth, Message: "client_secret_file: open /etc/mde/customer-0: no such file", advice: "create /etc/mde/customer-0"},
				&Error{API: Token, Reason: ReasonAuth, Message: "client_secret_file: open /etc/mde/customer-1: no such file", advice: "create /etc/mde/customer-1"},
			},
			cause: "client_secret_file: open /etc/mde/…: no such file", remedy: "create /etc/mde/…",
		},
		{
			name: "a response that is not JSON, with different offsets",
			errors: []error{
				&Error{API: Machines, Reason: ReasonDecode, Message: "no JSON after offset 17"},
				&Error{API: Machines, Reason: ReasonDecode, Message: "no JSON after offset 170"},
			},
			cause: "no JSON after …", remedy: "no proxy responds in its place",
		},
		{
			name:   "a missing role",
			errors: []error{&Error{API: Machines, Reason: ReasonForbidden, Status: 403}},
			cause:  "HTTP 403", remedy: "add the application permission Machine.Read.All",
		},
		{
			name:   "a rejected token without details",
			errors: []error{&Error{API: Machines, Reason: ReasonAuth, Status: 401, advice: "check the API's scope"}},
			cause:  "HTTP 401", remedy: "check the API's scope",
		},
		{
			name: "a response without individual parts",
			errors: []error{
				&Error{API: Machines, Status: 400, Message: "BadRequest: the tenant's value isn't the app's value, see https://example.com/a/b and application/json"},
			},
			cause:  "HTTP 400: BadRequest: the tenant's value isn't the app's value, see https://example.com/a/b and application/json",
			remedy: "",
		},
		{name: "an error that is not an Error", errors: []error{errors.New("disk full")}, cause: "disk full"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for i, err := range test.errors {
				cause, remedy := Explain(err, fmt.Sprintf("customer-%d", i))
				if cause != test.cause || !strings.Contains(remedy, test.remedy) || (test.remedy == "") != (remedy == "") {
					t.Errorf("%v is explained by %q and %q, want %q and %q", err, cause, remedy, test.cause, test.remedy)
				}
			}
		})
	}
}
