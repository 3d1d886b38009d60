package client

import (
	"context"
	"iter"
	"time"
)

// AntivirusHealth is one row of /api/deviceavinfo.
type AntivirusHealth struct {
	// MachineID is the ID of the Machine that the row is about.
	MachineID         MachineID
	OSKind            []byte
	OSVersion         []byte
	Mode              []byte
	SignatureUpToDate []byte
	EngineUpToDate    []byte
	PlatformUpToDate  []byte
	// DataRefreshedAt is the zero time if the API does not return it. The API returns
	// the year 0001 for "never": then NeverRefreshed is true and the time is zero.
	DataRefreshedAt time.Time
	NeverRefreshed  bool
	EngineVersion   []byte
	PlatformVersion []byte
	// SignaturesPublishedAt and SignaturesUpdatedAt are each the zero time if the API
	// does not return them.
	SignaturesPublishedAt, SignaturesUpdatedAt time.Time
	QuickScan, FullScan                        Scan
}

// Scan is the last scan of one kind.
type Scan struct {
	// Result is "Completed", "Canceled" or "Failed", or empty or "-" if there was no scan.
	Result []byte
	// At is the zero time if there was no scan.
	At time.Time
}

// AntivirusHealth yields every row of GET {api}/api/deviceavinfo. A machine may
// have several rows, or none. Iteration ends after an error.
func (c *Client) AntivirusHealth(ctx context.Context) iter.Seq2[*AntivirusHealth, error] {
	return rows(ctx, c, c.list(DeviceAVInfo, ""), decodeAntivirusHealth)
}

func decodeAntivirusHealth(d *decoder, row []byte, h *AntivirusHealth) {
	*h = AntivirusHealth{}
	for name, value := range d.members(row) {
		switch string(name) {
		case "machineId":
			d.id(&h.MachineID, value)
		case "osKind":
			h.OSKind = d.text(value)
		case "osVersion":
			h.OSVersion = d.text(value)
		case "avMode":
			h.Mode = d.text(value)
		case "avIsSignatureUpToDate":
			h.SignatureUpToDate = d.flag(value)
		case "avIsEngineUpToDate":
			h.EngineUpToDate = d.flag(value)
		case "avIsPlatformUpToDate":
			h.PlatformUpToDate = d.flag(value)
		case "dataRefreshTimestamp":
			h.DataRefreshedAt, h.NeverRefreshed = d.timeOrNever(value)
		case "avEngineVersion":
			h.EngineVersion = d.text(value)
		case "avPlatformVersion":
			h.PlatformVersion = d.text(value)
		case "avSignaturePublishTime":
			h.SignaturesPublishedAt = d.time(value)
		case "avSignatureUpdateTime":
			h.SignaturesUpdatedAt = d.time(value)
		case "quickScanResult":
			h.QuickScan.Result = d.text(value)
		case "quickScanTime":
			h.QuickScan.At = d.time(value)
		case "fullScanResult":
			h.FullScan.Result = d.text(value)
		case "fullScanTime":
			h.FullScan.At = d.time(value)
		}
	}
}
