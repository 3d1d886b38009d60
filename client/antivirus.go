package client

import (
	"context"
	"iter"
	"time"
)

// AntivirusHealth is one row of /api/deviceavinfo.
type AntivirusHealth struct {
	// MachineID joins the row with a Machine.
	MachineID         MachineID
	OSKind            []byte
	OSVersion         []byte
	Mode              []byte
	SignatureUpToDate []byte
	EngineUpToDate    []byte
	PlatformUpToDate  []byte
	// DataRefreshedAt is the zero time where the API names none, or the year
	// 0001, by which it says never; then NeverRefreshed is true.
	DataRefreshedAt time.Time
	NeverRefreshed  bool
}

// AntivirusHealth yields every row of GET {api}/api/deviceavinfo. A machine may
// have several rows, or none. After an error nothing more is yielded.
func (c *Client) AntivirusHealth(ctx context.Context) iter.Seq2[*AntivirusHealth, error] {
	return rows(ctx, c, c.list(DeviceAVInfo, ""), decodeAntivirusHealth)
}

func decodeAntivirusHealth(d *decoder, h *AntivirusHealth) {
	*h = AntivirusHealth{}
	d.entity()
	for d.object(); d.member(); {
		switch string(d.name) {
		case "machineId":
			h.MachineID, _ = d.id()
		case "osKind":
			h.OSKind = d.text()
		case "osVersion":
			h.OSVersion = d.text()
		case "avMode":
			h.Mode = d.text()
		case "avIsSignatureUpToDate":
			h.SignatureUpToDate = d.flag()
		case "avIsEngineUpToDate":
			h.EngineUpToDate = d.flag()
		case "avIsPlatformUpToDate":
			h.PlatformUpToDate = d.flag()
		case "dataRefreshTimestamp":
			h.DataRefreshedAt, h.NeverRefreshed = d.timeOrNever()
		default:
			d.skip()
		}
	}
}
