package servertest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Prometheus is a Prometheus server.
type Prometheus struct{ *Process }

// StartPrometheus starts a Prometheus with this configuration, whose relative
// paths are relative to dir. Its data is in dir/data, which may already contain
// blocks.
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

// Sample is one series of a query's result. Value is only set for instant queries
// and not for histograms.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Query evaluates an instant query whose result is a vector.
func (p *Prometheus) Query(expr string) ([]Sample, error) {
	return p.query("query", url.Values{"query": {expr}})
}

// QueryRange evaluates a range query, its last point exactly at the end if the step
// divides the range: end is not rounded, so that it includes what Query just saw.
func (p *Prometheus) QueryRange(expr string, start, end time.Time, step time.Duration) ([]Sample, error) {
	return p.query("query_range", url.Values{
		"query": {expr},
		"start": {start.UTC().Format(time.RFC3339Nano)},
		"end":   {end.UTC().Format(time.RFC3339Nano)},
		"step":  {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
}

func (p *Prometheus) query(path string, parameters url.Values) ([]Sample, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any // Time, and value as text.
		}
	}
	if err := p.api(path, parameters, &data); err != nil {
		return nil, err
	}
	samples := make([]Sample, len(data.Result))
	for i, s := range data.Result {
		samples[i].Labels = s.Metric
		if text, ok := s.Value[1].(string); ok {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", path, parameters, err)
			}
			samples[i].Value = value
		}
	}
	return samples, nil
}

// LabelValues returns the values of a label in the series of a selector.
func (p *Prometheus) LabelValues(label, selector string) (values []string, err error) {
	err = p.api("label/"+url.PathEscape(label)+"/values", url.Values{"match[]": {selector}}, &values)
	return values, err
}

// FailedRules returns the rules whose last evaluation failed, with the error.
func (p *Prometheus) FailedRules() ([]string, error) {
	var result struct {
		Groups []struct {
			Rules []struct{ Name, LastError string }
		}
	}
	err := p.api("rules", nil, &result)
	var failed []string
	for _, group := range result.Groups {
		for _, rule := range group.Rules {
			if rule.LastError != "" {
				failed = append(failed, rule.Name+": "+rule.LastError)
			}
		}
	}
	return failed, err
}

// api decodes the data of an API response. A status other than 200 is an error.
func (p *Prometheus) api(path string, parameters url.Values, data any) error {
	body, err := get(p.URL() + "/api/v1/" + path + "?" + parameters.Encode())
	if err == nil {
		err = json.Unmarshal(body, &struct{ Data any }{data})
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", path, parameters, err)
	}
	return nil
}
