package client

import (
	"context"
	"iter"
)

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
