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
	EngineVersion   []byte
	PlatformVersion []byte
	// SignaturesPublishedAt and SignaturesUpdatedAt are the zero time where the API
	// names none. Either may be missing.
	SignaturesPublishedAt, SignaturesUpdatedAt time.Time
	QuickScan, FullScan                        Scan
}

// Scan is the last scan of one kind.
type Scan struct {
	// Result is "Completed", "Canceled" or "Failed", and empty or "-" without a scan.
	Result []byte
	// At is the zero time without a scan.
	At time.Time
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
		case "avEngineVersion":
			h.EngineVersion = d.text()
		case "avPlatformVersion":
			h.PlatformVersion = d.text()
		case "avSignaturePublishTime":
			h.SignaturesPublishedAt = d.time()
		case "avSignatureUpdateTime":
			h.SignaturesUpdatedAt = d.time()
		case "quickScanResult":
			h.QuickScan.Result = d.text()
		case "quickScanTime":
			h.QuickScan.At = d.time()
		case "fullScanResult":
			h.FullScan.Result = d.text()
		case "fullScanTime":
			h.FullScan.At = d.time()
		default:
			d.skip()
		}
	}
}
