package client

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/oauth2"
)

// get makes one call and retries it if the error is temporary. The response has status
// 200 and an unread body.
func (c *Client) get(ctx context.Context, api API, u *url.URL) (*apiResponse, error) {
	var a *apiResponse
	svc := c.serviceOf(api)
	renewed := false
	report, _ := ctx.Value(attemptErrorsKey{}).(func(error))
	err := retry(ctx, api, callRetry, func(ctx context.Context) (err error) {
		if report != nil {
			defer func() { report(c.secrets.error(err)) }()
		}
		var token *oauth2.Token
		a, token, err = c.attempt(ctx, api, u)
		if isStatus(err, http.StatusForbidden) {
			svc.tokens.renewSoon(token)
		}
		if renewed || !isStatus(err, http.StatusUnauthorized) || !svc.tokens.reject(token) {
			return err
		}
		renewed = true
		if a, _, err = c.attempt(ctx, api, u); isStatus(err, http.StatusUnauthorized) {
			svc.tokens.pauseRejections()
		}
		return err
	})
	return a, err
}

// attempt makes one call without retries: it waits for quota, gets a token and sends the
// request. It also returns the token that it used.
func (c *Client) attempt(ctx context.Context, api API, u *url.URL) (*apiResponse, *oauth2.Token, error) {
	svc := c.serviceOf(api)
	if !sameOrigin(u, svc.url) {
		return nil, nil, &Error{API: api, Reason: ReasonPagination, Message: "a token is not sent to " + origin(u)}
	}
	slot, err := c.share(api).take(ctx)
	if err != nil {
		return nil, nil, err
	}
	token, err := svc.tokens.token(ctx)
	if err != nil {
		slot.end(false)
		return nil, nil, err
	}
	a, err := c.send(ctx, api, u, token, slot)
	return a, token, err
}

// send sends the request. A status other than 200 is an error.
func (c *Client) send(caller context.Context, api API, u *url.URL, token *oauth2.Token, slot *slot) (*apiResponse, error) {
	ctx, cancel := context.WithTimeout(caller, c.timeout)
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, slot.trace(ctx)), http.MethodGet, u.String(), nil)
	if err != nil {
		cancel()
		slot.end(false)
		return nil, &Error{API: api, Reason: ReasonOther, Err: err}
	}
	token.SetAuthHeader(req)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", c.userAgent)

	start := time.Now()
	resp, err := c.http.Do(req)
	slot.end(err == nil)
	if err != nil {
		err = transportError(caller, api, c.timeout, "no response", err)
		cancel()
		c.observer.Call(api, "error", time.Since(start))
		return nil, err
	}
	finished := func(readErr error) {
		_ = resp.Body.Close()
		cancel()
		code := strconv.Itoa(resp.StatusCode)
		if readErr != nil {
			code = "error"
		}
		c.observer.Call(api, code, time.Since(start))
	}
	if resp.StatusCode == http.StatusOK {
		c.share(api).resetBackoff()
		return &apiResponse{
			body:   resp.Body,
			header: resp.Header,
			explain: func(readErr error) error {
				return transportError(caller, api, c.timeout, "the response is truncated", readErr)
			},
			finished: finished,
		}, nil
	}
	err = c.statusError(api, resp)
	finished(nil)
	return nil, err
}
