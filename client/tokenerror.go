package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/oauth2"
)

// tokenError tells why a token request failed: from the sign-in host's own
// words where it refused, with what an operator can do about it.
//
// The error that x/oauth2 returns prints the whole answer and is never kept as
// a cause.
func tokenError(err error, scope string) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		e := answerError(refused.Response, refused.Body, scope)
		if e.Reason == ReasonAuth && e.Code == "" && e.advice == "" {
			e.explain("the answer is not that of a token endpoint: check login_url, tenant_id and the proxy")
		}
		return e
	}
	// Errors below HTTP are *Error already, by tokenTransport: this one is
	// about an answer that x/oauth2 could not read.
	return tokenDecodeError("the answer is not the JSON object with an access_token that a token endpoint sends")
}

// answerError tells what an answer without a token says.
func answerError(response *http.Response, body []byte, scope string) *Error {
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Codes       []int  `json:"error_codes"`
	}
	// A body that is not JSON, such as a proxy's page, says nothing.
	_ = json.Unmarshal(body, &answer)

	status := response.StatusCode
	e := &Error{
		API:     Token,
		Status:  status,
		Code:    answer.Error,
		Message: strings.TrimRight(firstLine(answer.Description), "."),
	}
	switch {
	case status == http.StatusTooManyRequests:
		e.Reason = ReasonThrottled
		e.RetryAfter = retryAfter(response.Header)
	case status >= 500, status == http.StatusRequestTimeout,
		answer.Error == "temporarily_unavailable", answer.Error == "server_error":
		e.Reason = ReasonServer
		e.RetryAfter = retryAfter(response.Header)
	case status >= 300 && status < 400:
		e.Reason = ReasonAuth
		e.Message = ""
		e.explain("the sign-in host answers with a redirect, which is never followed: check login_url and the proxy")
	default:
		e.Reason = ReasonAuth
		if mend := advice(answer.Error, answer.Codes, scope); mend != "" {
			e.explain(mend)
		}
	}
	return e
}

// advices say what to mend, by Entra's own numbers:
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
var advices = map[int]string{
	7000215: "the client secret is wrong: give the secret's value, not its id",
	7000222: "the client secret has expired: make a new one for the app registration and put it in the secret's place",
	700016:  "the tenant has no app with this client_id: check client_id and tenant_id; in a customer's tenant an administrator must consent to the app first",
	90002:   "there is no such tenant in this cloud: check tenant_id and cloud",
	900023:  "the tenant id is neither a GUID nor a domain name: check tenant_id",
	7000112: "the app is disabled in this tenant: an administrator must enable its enterprise application",
	700027:  "the certificate is not registered with the app: upload it to the app registration",
	700024:  "the assertion's validity lies in the past or the future: check the clock of this machine, and that the token file is renewed",
	700211:  "no federated credential of the app names the issuer of the token file's token",
	700213:  "no federated credential of the app names the subject of the token file's token",
	700212:  "no federated credential of the app names the audience of the token file's token",
	70021:   "no federated credential of the app matches the issuer, subject and audience of the token file's token",
	53003:   "a conditional access policy of the tenant blocks the app: allow it for this workload identity",
}

// advice returns what to mend, or nothing where it is not known.
func advice(code string, numbers []int, scope string) string {
	for _, number := range numbers {
		switch text, ok := advices[number]; {
		case ok:
			return text
		case number == 500011 || number == 500014 || number == 650052:
			return fmt.Sprintf("the tenant does not know the API behind the scope %s: check cloud and api_scope, and that the tenant has Defender for Endpoint", scope)
		}
	}
	switch code {
	case "invalid_client":
		return "the sign-in host does not accept the app's credential: check the secret, certificate or federated credential"
	case "unauthorized_client":
		return "the app may not sign in to this tenant: check client_id and tenant_id"
	case "invalid_resource", "invalid_scope":
		return fmt.Sprintf("the tenant does not know the API behind the scope %s: check cloud and api_scope", scope)
	}
	return ""
}

// firstLine returns what an error_description says, without the trace and
// correlation ids that make each occurrence another text.
func firstLine(description string) string {
	line, _, _ := strings.Cut(description, "\n")
	line, _, _ = strings.Cut(line, "Trace ID:")
	return strings.TrimSpace(line)
}
