package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/prometheus-community/json_exporter/config"
	exporters "github.com/prometheus-community/json_exporter/exporter"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	pconfig "github.com/prometheus/common/config"
)

// jsonExporter does what the handler of json_exporter's /probe does. It follows
// no links, so it sees the first page, and it counts nothing: each machine becomes
// a series, which Prometheus has to store and count.
var jsonExporter = way{name: "json_exporter", prepare: jsonExporterReader}

// module is its configuration for machine security states.
func module(f *farEnd) config.Module {
	m := config.Module{Metrics: []config.Metric{{
		Name: "machine", Help: "A machine.", Type: config.ObjectScrape, ValueType: config.ValueTypeGauge, Path: "{.value[*]}",
		Labels: map[string]string{
			"id": "{.id}", "os_build": "{.build}", "architecture": "{.architecture}", "properties": "{.propertiesRequireAttention}",
		},
		Values: map[string]string{"info": "1"},
	}}}
	trust := pconfig.TLSConfig{CA: string(f.Authority)}
	m.HTTPClientConfig.TLSConfig = trust
	m.HTTPClientConfig.OAuth2 = &pconfig.OAuth2{
		ClientID: f.ClientID, ClientSecret: pconfig.Secret(f.ClientSecret), TLSConfig: trust,
		TokenURL: f.tokenURL(), Scopes: []string{graphScope},
	}
	return m
}

func jsonExporterReader(f *farEnd, source string) (reader, error) {
	if source != preview {
		return nil, errors.New("json_exporter cannot join /api/machines with /api/deviceavinfo")
	}
	m := module(f)
	metrics, err := exporters.CreateMetricsList(m)
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	return func(ctx context.Context) (int, error) {
		data, err := exporters.NewJSONFetcher(ctx, logger, m, nil).FetchJSON(f.Pages[preview][0])
		if err != nil {
			return 0, err
		}
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(exporters.JSONMetricCollector{JSONMetrics: metrics, Data: data, Logger: logger})
		var gathered []*dto.MetricFamily
		gather := prometheus.GathererFunc(func() (families []*dto.MetricFamily, err error) {
			gathered, err = registry.Gather()
			return gathered, err
		})
		answer := httptest.NewRecorder()
		promhttp.HandlerFor(gather, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/probe", nil))
		if answer.Code != http.StatusOK {
			return 0, fmt.Errorf("the scrape is answered with %d: %s", answer.Code, answer.Body)
		}
		return len(gathered[0].GetMetric()), nil
	}, nil
}
