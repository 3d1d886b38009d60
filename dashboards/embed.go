// Package dashboards holds the Grafana dashboards of this version of the
// exporter, made by the program in generate/.
package dashboards

import "embed"

//go:generate go run ./generate

// Files holds the dashboards, *.json, at its top level.
//
//go:embed *.json
var Files embed.FS
