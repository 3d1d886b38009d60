package exporter

import "github.com/prometheus/client_golang/prometheus"

// newStorageSuccess is the gauge of how the last write to the storage went.
func newStorageSuccess(success func() bool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mde_exporter_storage_success",
		Help: "1 while the last write to --storage.path succeeded, 0 while a restart would lose values or spent quota. Absent without storage.",
	}, func() float64 {
		if success() {
			return 1
		}
		return 0
	})
}
