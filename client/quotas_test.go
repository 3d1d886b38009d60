package client

import (
	"errors"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

func TestQuotasAreKeyedByAppTenantAndHost(t *testing.T) {
	secret := ClientSecret{TenantID: "tid", ClientID: "app", Secret: "one"}
	key := newQuotaKey(secret, &url.URL{Scheme: "https", Host: "api.example"})
	if want := "tid/app@api.example:443"; key.String() != want {
		t.Errorf("key %s, want %s", key, want)
	}
	for _, test := range []struct {
		name       string
		credential Credential
		url        string
		same       bool
	}{
		{"another secret", ClientSecret{TenantID: "tid", ClientID: "app", Secret: "two"}, "https://api.example", true},
		{"another way to sign in", WorkloadIdentity{TenantID: "tid", ClientID: "app"}, "https://api.example", true},
		{"another case and a port", Certificate{TenantID: "TID", ClientID: "App"}, "https://API.example:443", true},
		{"another app", ClientSecret{TenantID: "tid", ClientID: "app2"}, "https://api.example", false},
		{"another tenant", ClientSecret{TenantID: "tid2", ClientID: "app"}, "https://api.example", false},
		{"another host", secret, "https://eu.api.example", false},
		{"a managed identity", ManagedIdentity{ClientID: "app"}, "https://api.example", false},
	} {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := newQuotaKey(test.credential, u); (got == key) != test.same {
			t.Errorf("%s: key %s beside %s", test.name, got, key)
		}
	}
	u := &url.URL{Scheme: "https", Host: "api.example"}
	if newQuotaKey(ManagedIdentity{}, u) == newQuotaKey(ManagedIdentity{ClientID: "id"}, u) {
		t.Error("the machine's own identity and another one share a quota")
	}
}

func quotaOptions(q *Quotas, limits Limits) Options {
	at := func(host string) *url.URL { return &url.URL{Scheme: "https", Host: host} }
	return Options{
		LoginURL: at("login.example"), GraphURL: at("graph.example"), APIURL: at("api.example"),
		GraphScope: "graph", APIScope: "api", Quotas: q, Quota: limits,
		Credential: ClientSecret{TenantID: "tid", ClientID: "app", Secret: "secret"},
	}
}

func quotaClient(t *testing.T, q *Quotas, limits Limits) *Client {
	t.Helper()
	c, err := New(quotaOptions(q, limits))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientsOfOneAppShareTheirQuotaAndItsPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQuotas(nil)
		one, two := quotaClient(t, q, Limits{10, 100}), quotaClient(t, q, Limits{2, 1000})
		one.JoinQuotas()
		if got, want := two.Quota(Machines), (QuotaUse{Limits: Limits{2, 1000}}); got != want {
			t.Errorf("before JoinQuotas a client's quota is %+v, want %+v", got, want)
		}
		if got := one.Quota(Machines).Limits; got != (Limits{10, 100}) {
			t.Errorf("a client that has not joined changes the limits to %+v", got)
		}
		two.JoinQuotas()
		mustSend(t, one.share(Machines))
		mustSend(t, two.share(Machines))
		use := one.Quota(Machines)
		if want := (QuotaUse{2, 2, Limits{2, 100}, false, 2, 1}); use != want || two.Quota(Machines) != want {
			t.Errorf("use %+v and %+v, want %+v", use, two.Quota(Machines), want)
		}
		one.share(Machines).backOff(10 * time.Minute)
		start := time.Now()
		mustSend(t, two.share(Machines))
		if waited := time.Since(start); waited != 10*time.Minute {
			t.Errorf("a 429 of one client delays the other for %v", waited)
		}
		two.Close()
		if got := one.Quota(Machines).Limits; got != (Limits{10, 100}) {
			t.Errorf("the limits of a closed client still apply: %+v", got)
		}
		// A closed client makes no more calls, so the others need not plan for them.
		if use := one.Quota(Machines); use.Clients != 1 || use.OthersHourCalls != 0 || use.HourCalls != 3 {
			t.Errorf("after another client was closed, use %+v", use)
		}
		time.Sleep(3 * time.Hour)
		q.Sweep()
		if n := len(q.quotas); n == 0 {
			t.Error("the quotas of a client that made no call for hours were removed")
		}
	})
}

func TestQuotaAndPausesOutliveClientsForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQuotas(nil)
		c := quotaClient(t, q, Limits{1, 100})
		mustSend(t, c.share(Machines))
		c.membership.Load().signIn.record(&Error{Reason: ReasonThrottled, RetryAfter: 2 * time.Hour}, callRetry)
		c.Close()
		c.Close()
		q.Sweep()

		c = quotaClient(t, q, Limits{1, 100})
		start := time.Now()
		mustSend(t, c.share(Machines))
		if waited := time.Since(start); waited != time.Minute+maxTransit {
			t.Errorf("the next client's call waited %v", waited)
		}
		_, err := c.api.tokens.attempt(t.Context())
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != ReasonThrottled {
			t.Errorf("the next client requests a token during the pause: %v", err)
		}
		c.Close()
		time.Sleep(time.Hour + 2*maxTransit)
		q.Sweep()
		if n := len(q.quotas); n != 1 {
			t.Errorf("%d quotas remain, want that of the sign-in host", n)
		}
		time.Sleep(time.Hour)
		q.Sweep()
		if n := len(q.quotas); n != 0 {
			t.Errorf("%d quotas remain", n)
		}
	})
}

func TestClientThatNeverJoinsLeavesNoQuota(t *testing.T) {
	q := NewQuotas(func(QuotaKey) Ledger { t.Error("a ledger is read"); return nil })
	quotaClient(t, q, Limits{1, 1}).Close()
	if n := len(q.quotas); n != 0 {
		t.Errorf("%d quotas", n)
	}
}

func TestClientShareIsWhatOthersDoNotUse(t *testing.T) {
	limits := Limits{100, 1500}
	for _, test := range []struct {
		name            string
		clients, others int
		want            Limits
	}{
		{"alone", 1, 0, limits},
		{"before its first call", 0, 0, limits},
		{"beside one that spends little", 2, 15, Limits{99, 1485}},
		{"beside one that spends all", 2, 1500, Limits{50, 750}},
		{"beside many", 4000, 1500, Limits{1, 1}},
	} {
		use := QuotaUse{Limits: limits, Clients: test.clients, OthersHourCalls: test.others}
		if got := use.Share(); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}
