package wait

import "time"

// The table of docs/design.md has the reason of each rule; a test compares the two.
var (
	// Call is for an API call or a token request that failed in passing, and for the
	// calls after a 429 that does not say how long to wait.
	Call = Rule{Pauses: []time.Duration{time.Second}, Longest: time.Minute, Jitter: 0.25, Tries: 5}
	// IdentityEndpoint takes the place of Call for a managed identity.
	IdentityEndpoint = Rule{Pauses: []time.Duration{2 * time.Second, 6 * time.Second, 14 * time.Second, 30 * time.Second}, Tries: 5}
	// RefusedCredential is for a credential that the sign-in host does not accept.
	RefusedCredential = Rule{Pauses: []time.Duration{time.Minute}, Longest: 5 * time.Minute}
	// RefusedToken is for a new token that an API does not accept.
	RefusedToken = Rule{Pauses: []time.Duration{5 * time.Minute}}
	// FailedRefresh is for a collector; its interval bounds it.
	FailedRefresh = Rule{Pauses: []time.Duration{15 * time.Second}, Jitter: 0.25}
	// FailedDomain is for a watched domain; the time that the whole list takes bounds it.
	FailedDomain = Rule{Pauses: []time.Duration{time.Minute}, Jitter: 0.25}
	// Refreshed spreads the interval between two refreshes.
	Refreshed = Rule{Jitter: 0.05}
)

const (
	// MaxRetryAfter bounds what a service may ask to wait.
	MaxRetryAfter = 24 * time.Hour
	// MaxSignIn bounds the waits for a sign-in host, from its first refusal on.
	MaxSignIn = 5 * time.Minute
	// MaxLookup bounds the retries of one lookup of a domain.
	MaxLookup = 2 * time.Minute
	// MinDenied is the least pause of a collector whose access was denied.
	MinDenied = time.Minute
	// RenewBefore is how long before its expiry a token is renewed.
	RenewBefore = 5 * time.Minute
	// RenewAgain is how long a renewal that failed is put off.
	RenewAgain = 30 * time.Second
	// QuotaGuard is added to each window of a quota.
	QuotaGuard = 5 * time.Second
	// PaceGuard is added to each window of a quota to get an even pace.
	PaceGuard = 8 * time.Second
	// MinHang and MaxHang bound the half of an interval after which a lookup of a
	// domain hangs.
	MinHang = 5 * time.Second
	MaxHang = time.Minute
	// LeftPreview is the age at which the refusal of the Graph preview is verified.
	LeftPreview = time.Hour
	// StartSpacing lies between the starts of two tenants.
	StartSpacing = 100 * time.Millisecond
)
