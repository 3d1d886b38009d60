package servertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// StartAlertmanager starts an Alertmanager that sends every alert to the webhook
// separately and without delay, and again when it resolves.
func StartAlertmanager(t testing.TB, dir string, to *Webhook) *Process {
	t.Helper()
	return StartAlertmanagerWith(t, dir, fmt.Sprintf(`
route:
  receiver: webhook
  group_by: ['...']
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
- name: webhook
  webhook_configs:
  - url: %s
    send_resolved: true
`, to.URL))
}

// StartAlertmanagerWith starts an Alertmanager with this configuration.
func StartAlertmanagerWith(t testing.TB, dir, config string) *Process {
	t.Helper()
	program := Find(t, "alertmanager", "prometheus-alertmanager")
	file := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := FreeAddress(t)
	return Start(t, address, "/-/ready", program,
		"--config.file="+file, "--storage.path="+filepath.Join(dir, "alertmanager"),
		"--web.listen-address="+address, "--cluster.listen-address=")
}

// Webhook receives the notifications of an Alertmanager.
type Webhook struct {
	URL string

	mu       sync.Mutex
	messages []Message
}

// Message is an Alertmanager's notification about a group of alerts.
type Message struct {
	Receiver string         `json:"receiver"`
	Alerts   []Notification `json:"alerts"`
}

// Notification is one alert of a Message.
type Notification struct {
	Status      string            `json:"status"` // firing or resolved
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// StartWebhook starts a webhook that accepts every message.
func StartWebhook(t testing.TB) *Webhook {
	t.Helper()
	hook := &Webhook{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var message Message
		if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		hook.mu.Lock()
		defer hook.mu.Unlock()
		hook.messages = append(hook.messages, message)
	}))
	t.Cleanup(server.Close)
	hook.URL = server.URL
	return hook
}

// Last returns the latest notification about an alert with these labels; it may
// have others. It returns false if there is none.
func (h *Webhook) Last(alert string, labels map[string]string) (last Notification, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range slices.Backward(h.messages) {
		for _, n := range slices.Backward(m.Alerts) {
			all := maps.Clone(n.Labels)
			maps.Copy(all, labels)
			if n.Labels["alertname"] == alert && maps.Equal(all, n.Labels) {
				return n, true
			}
		}
	}
	return Notification{}, false
}

// Messages returns the messages received so far.
func (h *Webhook) Messages() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.messages)
}
