package client

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// tokens holds the access token of one audience.
type tokens struct {
	options Options
	scope   string
	http    *http.Client

	mu      sync.Mutex
	current *oauth2.Token
}

func newTokens(o Options, scope string, httpClient *http.Client) *tokens {
	return &tokens{options: o, scope: scope, http: httpClient}
}

// token returns a token that is valid now, and asks for a new one where there is
// none.
func (t *tokens) token(ctx context.Context) (*oauth2.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.Valid() {
		return t.current, nil
	}
	secret, ok := t.options.Credential.(ClientSecret)
	if !ok {
		return nil, &Error{API: Token, Reason: ReasonAuth, Message: fmt.Sprintf("credential %T cannot be used", t.options.Credential)}
	}
	password := secret.Secret
	if secret.SecretFile != "" {
		content, err := os.ReadFile(secret.SecretFile)
		if err != nil {
			return nil, &Error{API: Token, Reason: ReasonAuth, Message: "read the client secret", Err: err}
		}
		password = strings.TrimSpace(string(content))
	}
	conf := clientcredentials.Config{
		ClientID:     secret.ClientID,
		ClientSecret: password,
		TokenURL:     t.options.LoginURL.JoinPath(secret.TenantID, "oauth2/v2.0/token").String(),
		Scopes:       []string{t.scope},
		AuthStyle:    oauth2.AuthStyleInParams,
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, t.http), t.options.RequestTimeout)
	defer cancel()
	token, err := conf.Token(ctx)
	if err != nil {
		return nil, &Error{API: Token, Reason: ReasonAuth, Err: err}
	}
	t.current = token
	return token, nil
}

// reject forgets a token that an API refused.
func (t *tokens) reject(token *oauth2.Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == token {
		t.current = nil
	}
}
