package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// tokens keeps the token of one audience: it is asked for once for all who
// wait for it, renewed before it expires, and forgotten when an API rejects it.
// A tokens is safe for concurrent use, and leaves nothing running once nobody
// waits for a token.
type tokens struct {
	credential Credential
	// expires is when the credential expires, as it was last read; shared by the
	// audiences of a tenant.
	expires *atomic.Pointer[time.Time]
	signIn
	rule    RetryRule // Of attempts that failed for a passing reason.
	refused refusal
	// throttle is shared by the audiences of a tenant.
	throttle *throttle

	mu      sync.Mutex
	current *oauth2.Token
	renewAt time.Time
	asked   time.Time // When a token was last asked for, in vain or not.
	pending *pendingToken
	// rejected lasts while another new token is not worth a request.
	rejected pause
}

// newTokens returns the tokens of the audience that scope names. Those of a managed
// identity come from beside this machine and by a transport of its own.
func newTokens(o Options, scope string, held *throttle, secrets *redactor) *tokens {
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
		throttle: held,
	}
}

// token returns a token that is good for a while. The first one to ask starts
// a request and all others wait for its outcome, each as long as its own ctx
// allows. Errors of the request are of type *Error.
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

// reject forgets a token that an API did not accept, so that the next one to
// ask gets a new one. A token that was replaced already is no matter. It reports
// false, and forgets nothing, while a new token does not help either.
func (t *tokens) reject(token *oauth2.Token) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rejected.left() > 0 {
		return false
	}
	if t.current != nil && t.current.AccessToken == token.AccessToken {
		t.current = nil
	}
	return true
}

// keepRejected makes reject keep tokens for a while: the API did not accept one
// that had just been got.
func (t *tokens) keepRejected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rejected.extend(tokenRetry, 0)
}

// doubt makes the next one to ask renew a token that may lack what was granted
// since, unless a token was asked for a short while ago: roles are in the token.
// The current token stays good for those that get no other.
func (t *tokens) doubt(token *oauth2.Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); t.current != nil && t.current.AccessToken == token.AccessToken && now.Sub(t.asked) >= tokenRetry.After(1) {
		t.renewAt = now
	}
}

// pendingToken is a token request under way. The token and err are set when
// done is closed; all else is guarded by tokens.mu.
type pendingToken struct {
	done   chan struct{}
	token  *oauth2.Token
	err    error
	cancel context.CancelFunc
	// waiters is how many wait for the request; the last one to leave ends it.
	waiters int
	// last is the error of the last attempt, for those who cannot wait for the next.
	last error
}

// start asks for a token in the background. The caller holds t.mu.
//
// The request lives as long as anybody waits, not as long as who came first;
// but it is not tried again after the time until which that one would, nor for
// longer than a sign-in host is waited for.
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
	spare := t.current
	go func() {
		defer cancel()
		token, err := t.renew(ctx, p, spare)
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

// leave returns why a waiter goes without a token, and ends the request if it
// was the last to wait for it.
func (t *tokens) leave(ctx context.Context, p *pendingToken) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.waiters--; p.waiters == 0 {
		p.cancel()
		if t.pending == p {
			t.pending = nil
		}
	}
	if p.last != nil {
		return fmt.Errorf("%w: %w", p.last, ctx.Err())
	}
	return interrupted(ctx, Token, "while waiting for a token")
}

// renew gets a new token. A spare that is still good saves the waiting: it is
// returned when a single attempt failed, and the renewal put off.
func (t *tokens) renew(ctx context.Context, p *pendingToken, spare *oauth2.Token) (token *oauth2.Token, err error) {
	isGood := func() bool { return spare != nil && time.Now().Before(spare.Expiry) }
	if isGood() {
		ctx = WithRetryDeadline(ctx, time.Now())
	}
	err = retry(ctx, Token, t.rule, func(ctx context.Context) (err error) {
		token, err = t.attempt(ctx)
		t.mu.Lock()
		defer t.mu.Unlock()
		p.last = err
		return err
	})
	if err == nil || !isGood() {
		return token, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == spare {
		t.renewAt = time.Now().Add(min(renewAgain, time.Until(spare.Expiry)))
	}
	return spare, nil
}

// attempt makes one token request, unless its outcome is known: a credential
// that cannot be read, one that was refused a short while ago, a sign-in host
// that asked for a pause.
func (t *tokens) attempt(ctx context.Context) (*oauth2.Token, error) {
	proof, err := t.prove(ctx)
	if err != nil {
		return nil, t.signIn.secrets.error(&Error{API: Token, Reason: ReasonAuth, Err: err})
	}
	if err := t.refused.recall(proof.fingerprint); err != nil {
		return nil, err
	}
	if err := t.throttle.check(); err != nil {
		return nil, err
	}
	asked := time.Now()
	t.mu.Lock()
	t.asked = asked
	t.mu.Unlock()
	token, err := proof.exchange(ctx)
	err = t.signIn.secrets.error(err)
	t.throttle.record(err, t.rule)
	t.refused.record(proof.fingerprint, err)
	if err != nil {
		return nil, err
	}
	t.signIn.learn("token", token.AccessToken)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = token
	t.renewAt = token.Expiry.Add(-min(renewBefore, token.Expiry.Sub(asked)/5))
	return token, nil
}
