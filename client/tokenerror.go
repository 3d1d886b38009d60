package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// tokenRequestError returns the error for a response without a token: the sign-in host's
// code and message, and what to fix.
func tokenRequestError(response *http.Response, parsed tokenResponse, scope string) *Error {
	code, description, numbers := parsed.serviceError()
	status := response.StatusCode
	e := &Error{API: Token, Status: status, Code: code, Message: strings.TrimRight(firstLine(description), ".")}
	e.Reason, e.RetryAfter = retryableStatus(response)
	switch {
	case e.Reason != ReasonOther:
	case status == http.StatusRequestTimeout,
		code == "temporarily_unavailable", code == "server_error",
		slices.ContainsFunc(numbers, func(n int) bool { return slices.Contains(temporaryErrors, n) }):
		e.Reason = ReasonServer
		e.RetryAfter = retryAfter(response.Header)
	case status >= 300 && status < 400:
		e.Reason = ReasonAuth
		e.Message = ""
		e.advice = "the sign-in host sent a redirect, which is not followed: check login_url and the proxy"
	default:
		e.Reason = ReasonAuth
		e.advice = advice(code, numbers, scope)
	}
	return e
}

// serviceError returns the error in the response, in the format of OAuth or of the APIs,
// and Entra's error numbers, which may be sent as strings. All results are empty for a nil
// tokenResponse, such as that of a proxy.
func (a tokenResponse) serviceError() (code, description string, numbers []int) {
	_ = json.Unmarshal(a["error_description"], &description)
	if json.Unmarshal(a["error"], &code) != nil {
		var e struct{ Code, Message any }
		_ = json.Unmarshal(a["error"], &e)
		code, _ = e.Code.(string)
		if message, _ := e.Message.(string); description == "" {
			description = message
		}
	}
	var values []json.RawMessage
	_ = json.Unmarshal(a["error_codes"], &values)
	for _, value := range values {
		if n, err := strconv.Atoi(scalarText(value)); err == nil {
			numbers = append(numbers, n)
		}
	}
	return code, description, numbers
}

// temporaryErrors are Entra's numbers of temporary errors, with any status.
var temporaryErrors = []int{90024, 90033}

// advices are what to fix, by Entra's error numbers:
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
var advices = map[int]string{
	7000215: "the client secret is wrong: use the secret's value, not its id",
	7000222: "the client secret has expired: create a new one for the app registration and replace the old one with it",
	700016:  "the tenant has no app with this client_id: check client_id and tenant_id; in a customer's tenant an administrator must consent to the app first",
	90002:   "there is no such tenant in this cloud: check tenant_id and cloud",
	900023:  "the tenant id is neither a GUID nor a domain name: check tenant_id",
	7000229: "the app has no service principal in this tenant: an administrator must grant admin consent to the app",
	900382:  wrongCloud,
	900432:  wrongCloud,
	501051:  "the app is not assigned to the API's enterprise application in this tenant: assign it there, or turn off \"Assignment required\"",
	7000112: "the app is disabled in this tenant: an administrator must enable its enterprise application",
	700027:  "the certificate is not registered with the app: upload it to the app registration",
	700024:  "the assertion is expired or not yet valid: check the clock of this machine, and that the token file is renewed",
	700211:  "no federated credential of the app names the issuer of the token file's token",
	700213:  "no federated credential of the app names the subject of the token file's token",
	700212:  "no federated credential of the app names the audience of the token file's token",
	70021:   "no federated credential of the app matches the issuer, subject and audience of the token file's token",
	53003:   "a conditional access policy of the tenant blocks the app: allow it for this workload identity",
}

const wrongCloud = "the tenant is in another cloud: check azuread.cloud"

// advice returns what to fix, or empty if that is unknown.
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
		return "the sign-in host rejects the app's credential: check the secret, certificate or federated credential"
	case "unauthorized_client":
		return "the app may not sign in to this tenant: check client_id and tenant_id"
	case "invalid_resource", "invalid_scope":
		return fmt.Sprintf("the tenant does not know the API behind the scope %s: check cloud and api_scope", scope)
	}
	return ""
}

// firstLine returns the first line of an error_description, without the trace and
// correlation ids, which differ for each request.
func firstLine(description string) string {
	line, _, _ := strings.Cut(description, "\n")
	line, _, _ = strings.Cut(line, "Trace ID:")
	return strings.TrimSpace(line)
}
