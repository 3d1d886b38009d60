package simulation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestSignInErrorsMatchEntra(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	f.SetSecrets(f.ClientSecret(), "expired one")
	f.ExpireSecret("expired one")
	with := func(key, value string) url.Values {
		form := f.form(apiScope)
		form.Set(key, value)
		return form
	}
	for name, c := range map[string]struct {
		directory string
		form      url.Values
		status    int
		word      string
		code      float64
	}{
		"a wrong secret":              {form: with("client_secret", "guess"), status: 401, word: "invalid_client", code: 7000215},
		"an expired secret":           {form: with("client_secret", "expired one"), status: 401, word: "invalid_client", code: 7000222},
		"no secret":                   {form: with("client_secret", ""), status: 401, word: "invalid_client", code: 7000218},
		"an unknown app":              {form: with("client_id", "other"), status: 400, word: "unauthorized_client", code: 700016},
		"an unknown tenant":           {directory: "elsewhere", form: f.form(apiScope), status: 400, word: "invalid_request", code: 90002},
		"an unknown resource":         {form: with("scope", "https://other.example/.default"), status: 400, word: "invalid_resource", code: 500011},
		"a scope without its default": {form: with("scope", "Machine.Read.All"), status: 400, word: "invalid_scope", code: 1002012},
		"another grant":               {form: with("grant_type", "password"), status: 400, word: "unsupported_grant_type", code: 70003},
		"no grant":                    {form: with("grant_type", ""), status: 400, word: "invalid_request", code: 900144},
	} {
		t.Run(name, func(t *testing.T) {
			directory := c.directory
			if directory == "" {
				directory = f.TenantID()
			}
			a := f.post(t, f.LoginURL+"/"+directory+"/oauth2/v2.0/token", c.form)
			v := a.object(t)
			codes, _ := v["error_codes"].([]any)
			if a.status != c.status || v["error"] != c.word || len(codes) != 1 || codes[0] != c.code {
				t.Errorf("%d %s", a.status, a.body)
			}
			if d, _ := v["error_description"].(string); !strings.HasPrefix(d, "AADSTS") || !strings.Contains(d, "Trace ID: ") {
				t.Errorf("description %q", d)
			}
			if strings.Contains(string(a.body), "guess") || strings.Contains(string(a.body), "expired one") {
				t.Error("the response contains the secret")
			}
		})
	}
}

func TestSeveralSecretsAreValidDuringRotation(t *testing.T) {
	f := serve(t, simulation.Options{ClientSecret: "old"}, simulation.ListenOptions{})
	status := func(secret string) int {
		form := f.form(apiScope)
		form.Set("client_secret", secret)
		return f.signIn(t, form).status
	}
	f.SetSecrets("old", "new")
	if status("old") != 200 || status("new") != 200 {
		t.Error("one of the two secrets is rejected")
	}
	f.SetSecrets("new")
	if status("old") != 401 || status("new") != 200 {
		t.Error("the old secret is still valid, or the new one is not")
	}
}

func TestTokenClaims(t *testing.T) {
	f := serve(t, simulation.Options{TokenLifetime: 10 * time.Minute}, simulation.ListenOptions{})
	a := f.signIn(t, f.form(apiScope)).object(t)
	if a["token_type"] != "Bearer" || a["expires_in"] != 600.0 {
		t.Errorf("%v %v", a["token_type"], a["expires_in"])
	}
	parts := strings.Split(a["access_token"].(string), ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	claims, _, err := jwt.NewParser().ParseUnverified(a["access_token"].(string), jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	c := claims.Claims.(jwt.MapClaims)
	if roles, _ := c["roles"].([]any); len(roles) != 2 || roles[0] != simulation.RoleMachines {
		t.Errorf("roles %v", c["roles"])
	}
	if aud, _ := c.GetAudience(); len(aud) != 1 || aud[0] != simulation.APIAudience {
		t.Errorf("audience %v", aud)
	}
	if c["tid"] != f.TenantID() || c["appid"] != f.ClientID() {
		t.Errorf("tid %v appid %v", c["tid"], c["appid"])
	}
}

func TestAPIsCheckTheToken(t *testing.T) {
	f := serve(t, simulation.Options{TokenLifetime: time.Hour}, simulation.ListenOptions{})
	graph, api := f.token(t, graphScope), f.token(t, apiScope)
	machines, states, stats := f.APIURL+"/api/machines?$top=1", f.GraphURL+statesPath, f.APIURL+"/api/domains/a.example/stats"
	check := func(name, target, token string, status int, code string) {
		t.Helper()
		a := f.get(t, target, token)
		if a.status != status || status != 200 && errorCode(t, a) != code {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	check("no token", machines, "", 401, "Unauthorized")
	check("no token of this tenant", machines, "a.b.c", 401, "Unauthorized")
	check("a token for Graph at the API", machines, graph, 401, "Unauthorized")
	check("a token for the API at Graph", states, api, 401, "Unauthorized")
	check("the right token", machines, api, 200, "")
	check("the right token", states, graph, 200, "")
	check("the right token", stats, api, 200, "")

	f.SetRoles(simulation.RoleMachines)
	check("an older token", stats, api, 200, "")
	check("without the role", stats, f.token(t, apiScope), 403, "Forbidden")
	f.SetRoles()
	check("without any role", machines, f.token(t, apiScope), 403, "Forbidden")

	f.RevokeTokens()
	check("a revoked token", machines, api, 401, "Unauthorized")

	if n := len(f.Misdirected()); n != 3 {
		t.Errorf("%d misdirected calls: %+v", n, f.Misdirected())
	}
}

func TestGraphTokenCanBeRejected(t *testing.T) {
	f := serve(t, simulation.Options{NoGraphToken: true}, simulation.ListenOptions{})
	if a := f.signIn(t, f.form(graphScope)); a.status != 400 || a.object(t)["error"] != "invalid_resource" {
		t.Errorf("%d %s", a.status, a.body)
	}
	f.token(t, apiScope)
	f.RefuseGraphToken(false)
	f.token(t, graphScope)
}

// certificate returns a self-signed certificate and its key.
func certificate(t *testing.T) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestCertificatesSignIn(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	c, key := certificate(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(c.Raw)
	thumbprint := base64.RawURLEncoding.EncodeToString(sum[:])
	tokenURL := f.LoginURL + "/" + f.TenantID() + "/oauth2/v2.0/token"
	now := time.Now()
	validClaims := func() jwt.MapClaims {
		return jwt.MapClaims{
			"aud": tokenURL, "iss": f.ClientID(), "sub": f.ClientID(), "jti": rand.Text(),
			"nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		}
	}
	sign := func(method jwt.SigningMethod, key any, thumbprint string, edit func(jwt.MapClaims)) string {
		claims := validClaims()
		if edit != nil {
			edit(claims)
		}
		token := jwt.NewWithClaims(method, claims)
		token.Header["x5t#S256"] = thumbprint
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	signIn := func(assertion string) result {
		form := f.form(apiScope)
		form.Del("client_secret")
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
		return f.signIn(t, form)
	}
	once := sign(jwt.SigningMethodPS256, key, thumbprint, nil)
	if a := signIn(once); a.status != 401 {
		t.Errorf("before the certificate is registered: %d", a.status)
	}
	f.RegisterCertificate(c)
	if a := signIn(once); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for name, c := range map[string]struct {
		assertion string
		code      float64
	}{
		"used twice":             {once, 50027},
		"no JWT":                 {"x", 50027},
		"signed by RS256":        {sign(jwt.SigningMethodRS256, key, thumbprint, nil), 700027},
		"signed by another key":  {sign(jwt.SigningMethodES256, ec, thumbprint, nil), 700027},
		"of another certificate": {sign(jwt.SigningMethodPS256, key, "AAAA", nil), 700027},
		"for another audience":   {sign(jwt.SigningMethodPS256, key, thumbprint, func(c jwt.MapClaims) { c["aud"] = "https://x.example" }), 700023},
		"of another app":         {sign(jwt.SigningMethodPS256, key, thumbprint, func(c jwt.MapClaims) { c["iss"] = "x" }), 700021},
		"without an id":          {sign(jwt.SigningMethodPS256, key, thumbprint, func(c jwt.MapClaims) { delete(c, "jti") }), 50027},
		"expired":                {sign(jwt.SigningMethodPS256, key, thumbprint, func(c jwt.MapClaims) { c["exp"] = now.Add(-time.Hour).Unix() }), 700024},
		"not yet valid":          {sign(jwt.SigningMethodPS256, key, thumbprint, func(c jwt.MapClaims) { c["nbf"] = now.Add(time.Hour).Unix() }), 700024},
	} {
		t.Run(name, func(t *testing.T) {
			a := signIn(c.assertion)
			if codes, _ := a.object(t)["error_codes"].([]any); a.status != 401 || len(codes) != 1 || codes[0] != c.code {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestFederatedTokensSignIn(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	f.SetAssertions("projected token")
	status := func(assertion string) int {
		form := f.form(apiScope)
		form.Del("client_secret")
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
		return f.signIn(t, form).status
	}
	if status("projected token") != 200 || status("another") != 401 {
		t.Error("exactly the registered token must be valid")
	}
	f.SetAssertions("rotated token")
	if status("projected token") != 401 || status("rotated token") != 200 {
		t.Error("the old token is still valid, or the new one is not")
	}
}

func TestManagedIdentitySignsIn(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	request := func(query string, header ...string) result {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.LoginURL+"/metadata/identity/oauth2/token?api-version=2018-02-01&"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(header) == 2 {
			r.Header.Set(header[0], header[1])
		}
		return f.do(t, r)
	}
	resource := "resource=" + url.QueryEscape(simulation.APIAudience)
	for name, header := range map[string]string{"Metadata": "true", "X-Identity-Header": "simulated"} {
		v := request(resource, name, header).object(t)
		if v["expires_in"] != "3600" {
			t.Errorf("expires_in is %T %v, not a string", v["expires_in"], v["expires_in"])
		}
		if a := f.get(t, f.APIURL+"/api/machines?$top=1", v["access_token"].(string)); a.status != 200 {
			t.Errorf("the token is rejected: %s", a.body)
		}
	}
	for name, a := range map[string]result{
		"without the header":  request(resource),
		"another identity":    request(resource+"&client_id=x", "Metadata", "true"),
		"an unknown resource": request("resource=x", "Metadata", "true"),
	} {
		if a.status != 400 {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}
