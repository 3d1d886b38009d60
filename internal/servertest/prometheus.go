package servertest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Prometheus is a Prometheus server.
type Prometheus struct{ *Process }

// StartPrometheus starts a Prometheus with the configuration, whose relative
// paths are relative to dir. Its data is in dir/data, where blocks that were
// put there before are found.
func StartPrometheus(t testing.TB, dir, config string) *Prometheus {
	t.Helper()
	program := Find(t, "prometheus")
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := FreeAddress(t)
	return &Prometheus{Start(t, address, "/-/ready", program,
		"--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--storage.tsdb.retention.time=30d",
		"--web.listen-address="+address)}
}

// Sample is one series of an instant query's result. Histograms and strings
// have no value here.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Query evaluates the expression now.
func (p *Prometheus) Query(expr string) ([]Sample, error) {
	var result struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	}
	if err := p.api("/api/v1/query", url.Values{"query": {expr}}, &result); err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	if result.Type != "vector" {
		return nil, fmt.Errorf("query %s: a %s, not a vector", expr, result.Type)
	}
	var vector []struct {
		Metric map[string]string  `json:"metric"`
		Value  [2]json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(result.Result, &vector); err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	samples := make([]Sample, len(vector))
	for i, s := range vector {
		value, err := number(s.Value[1])
		if err != nil {
			return nil, fmt.Errorf("query %s: %w", expr, err)
		}
		samples[i] = Sample{Labels: s.Metric, Value: value}
	}
	return samples, nil
}

// QueryRange evaluates the expression over the range and returns for each
// series the number of its points.
func (p *Prometheus) QueryRange(expr string, start, end time.Time, step time.Duration) ([]int, error) {
	var result struct {
		Result []struct {
			Values []json.RawMessage `json:"values"`
		} `json:"result"`
	}
	err := p.api("/api/v1/query_range", url.Values{
		"query": {expr},
		"start": {strconv.FormatInt(start.Unix(), 10)},
		"end":   {strconv.FormatInt(end.Unix(), 10)},
		"step":  {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	}, &result)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	var points []int
	for _, series := range result.Result {
		points = append(points, len(series.Values))
	}
	return points, nil
}

// LabelValues lists the values that a label has in the series of a selector.
func (p *Prometheus) LabelValues(label, selector string) ([]string, error) {
	var values []string
	err := p.api("/api/v1/label/"+url.PathEscape(label)+"/values", url.Values{"match[]": {selector}}, &values)
	if err != nil {
		return nil, fmt.Errorf("values of %s in %s: %w", label, selector, err)
	}
	return values, nil
}

// Firing lists the values of a label in the firing alerts of a name.
func (p *Prometheus) Firing(alert, label string) ([]string, error) {
	samples, err := p.Query(fmt.Sprintf("ALERTS{alertname=%q, alertstate=%q}", alert, "firing"))
	var values []string
	for _, s := range samples {
		values = append(values, s.Labels[label])
	}
	slices.Sort(values)
	return values, err
}

func (p *Prometheus) api(path string, parameters url.Values, data any) error {
	body, err := get(p.URL() + path + "?" + parameters.Encode())
	if err != nil {
		return err
	}
	answer := struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   any    `json:"data"`
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return nil
}

// number reads a sample's value, which is a string in Prometheus's answers.
func number(raw json.RawMessage) (float64, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, err
	}
	return strconv.ParseFloat(text, 64)
}
