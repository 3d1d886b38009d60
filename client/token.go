package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// tokens caches the token of one audience. Concurrent callers share one token request. The
// token is renewed before it expires and dropped when an API rejects it. A tokens is safe
// for concurrent use and has no goroutine unless a caller waits for a token.
type tokens struct {
	credential Credential
	// expires is when the credential expires, as of its last load. The audiences of a
	// tenant share it.
	expires *atomic.Pointer[time.Time]
	signIn
	rule      RetryRule // Of attempts that failed with a temporary error.
	rejection credentialRejection
	// The audiences of a tenant share the throttle.
	throttle *throttle

	mu          sync.Mutex
	current     *oauth2.Token
	renewAt     time.Time
	requestedAt time.Time // When a token was last requested, successfully or not.
	pending     *pendingToken
	// rejectionPause lasts while the API also rejects new tokens.
	rejectionPause pause
}

// newTokens returns the tokens of the audience that scope names. A managed identity uses a
// separate transport, because its endpoint is on this machine.
func newTokens(o Options, scope string, throttle *throttle, secrets *redactor) *tokens {
	base, rule := o.Transport, callRetry
	if _, ok := o.Credential.(ManagedIdentity); ok {
		base, rule = newIdentityTransport(), identityRetry
	}
	return &tokens{
		credential: o.Credential,
		expires:    &atomic.Pointer[time.Time]{},
		signIn: signIn{
			login:     o.LoginURL,
			scope:     scope,
			secrets:   secrets,
			transport: &tokenTransport{base: base, timeout: o.RequestTimeout, observer: o.Observer, userAgent: o.UserAgent},
		},
		rule:     rule,
		throttle: throttle,
	}
}

// token returns a token that does not expire soon. The first caller starts a request if
// necessary; other callers wait for its result, each until its own ctx ends. Errors of the
// request are of type *Error.
func (t *tokens) token(ctx context.Context) (*oauth2.Token, error) {
	t.mu.Lock()
	if t.current != nil && time.Now().Before(t.renewAt) {
		defer t.mu.Unlock()
		return t.current, nil
	}
	if t.pending == nil {
		t.pending = t.start(ctx)
	}
	p := t.pending
	p.waiters++
	t.mu.Unlock()

	select {
	case <-p.done:
		return p.token, p.err
	case <-ctx.Done():
		return nil, t.leave(ctx, p)
	}
}

// reject drops a token that an API rejected, so that the next caller gets a new one. It
// ignores a token that was already replaced. It returns false and keeps the token during
// the pause of pauseRejections.
func (t *tokens) reject(token *oauth2.Token) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rejectionPause.remaining() > 0 {
		return false
	}
	if t.current != nil && t.current.AccessToken == token.AccessToken {
		t.current = nil
	}
	return true
}

// pauseRejections makes reject keep tokens for a while, because the API also rejected a
// new token.
func (t *tokens) pauseRejections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rejectionPause.extend(tokenRetry, 0)
}

// renewSoon makes the next caller renew a token that may lack a new role, because a token
// contains the roles of the time of its request. It does nothing if a token was requested
// a short time ago. If the renewal fails, the current token stays in use.
func (t *tokens) renewSoon(token *oauth2.Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); t.current != nil && t.current.AccessToken == token.AccessToken && now.Sub(t.requestedAt) >= tokenRetry.After(1) {
		t.renewAt = now
	}
}

// pendingToken is a token request in progress. token and err are set when done is closed.
// tokens.mu guards the other fields.
type pendingToken struct {
	done   chan struct{}
	token  *oauth2.Token
	err    error
	cancel context.CancelFunc
	// waiters is the number of callers that wait. The last one to leave cancels the request.
	waiters int
	// lastErr is the error of the last attempt, for callers that leave.
	lastErr error
}

// start requests a token in the background. The caller holds t.mu.
//
// The request continues while any caller waits, even after the first caller has left. It
// is not retried after the first caller's retry deadline, nor after the throttle's.
func (t *tokens) start(ctx context.Context) *pendingToken {
	deadline, bounded := retryDeadline(ctx)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if bounded {
		if end := t.throttle.deadline(); end.Before(deadline) {
			deadline = end
		}
		ctx = WithRetryDeadline(ctx, deadline)
	}
	p := &pendingToken{done: make(chan struct{}), cancel: cancel}
	previous := t.current
	go func() {
		defer cancel()
		token, err := t.renew(ctx, p, previous)
		t.mu.Lock()
		defer t.mu.Unlock()
		p.token, p.err = token, err
		if t.pending == p {
			t.pending = nil
		}
		close(p.done)
	}()
	return p
}

// leave removes a waiter and returns its error. It cancels the request if no other caller
// waits.
func (t *tokens) leave(ctx context.Context, p *pendingToken) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.waiters--; p.waiters == 0 {
		p.cancel()
		if t.pending == p {
			t.pending = nil
		}
	}
	if p.lastErr != nil {
		return fmt.Errorf("%w: %w", p.lastErr, ctx.Err())
	}
	return interrupted(ctx, Token, "while waiting for a token")
}

// renew requests a new token. If the previous token is still valid, renew makes only one
// attempt. If that fails, it returns the previous token and postpones the renewal.
func (t *tokens) renew(ctx context.Context, p *pendingToken, previous *oauth2.Token) (token *oauth2.Token, err error) {
	isValid := func() bool { return previous != nil && time.Now().Before(previous.Expiry) }
	if isValid() {
		ctx = WithRetryDeadline(ctx, time.Now())
	}
	err = retry(ctx, Token, t.rule, func(ctx context.Context) (err error) {
		token, err = t.attempt(ctx)
		t.mu.Lock()
		defer t.mu.Unlock()
		p.lastErr = err
		return err
	})
	if err == nil || !isValid() {
		return token, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == previous {
		t.renewAt = time.Now().Add(min(renewAgain, time.Until(previous.Expiry)))
	}
	return previous, nil
}

// attempt makes one token request. It makes none if the credential cannot be read or was
// rejected a short time ago, or if the sign-in host asked to wait.
func (t *tokens) attempt(ctx context.Context) (*oauth2.Token, error) {
	proof, err := t.loadCredential(ctx)
	if err != nil {
		return nil, t.signIn.secrets.error(&Error{API: Token, Reason: ReasonAuth, Err: err})
	}
	if err := t.rejection.cachedError(proof.fingerprint); err != nil {
		return nil, err
	}
	if err := t.throttle.check(); err != nil {
		return nil, err
	}
	asked := time.Now()
	t.mu.Lock()
	t.requestedAt = asked
	t.mu.Unlock()
	token, err := proof.requestToken(ctx)
	err = t.signIn.secrets.error(err)
	t.throttle.record(err, t.rule)
	t.rejection.record(proof.fingerprint, err)
	if err != nil {
		return nil, err
	}
	t.signIn.addSecret("token", token.AccessToken)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = token
	t.renewAt = token.Expiry.Add(-min(renewBefore, token.Expiry.Sub(asked)/5))
	return token, nil
}
