// Package alerts holds the Prometheus rules of this version of the exporter:
// thresholds, recorded series and alerts. Their unit tests are in tests/.
package alerts

import "embed"

// Files holds the rule files, *.yaml, at its top level.
//
//go:embed *.yaml
var Files embed.FS
