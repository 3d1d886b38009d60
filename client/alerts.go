package client

import (
	"bytes"
	"context"
	"iter"
	"net/http"
	"time"
)

// AlertID identifies an alert. It is derived from the API's id as a MachineID is. The
// zero AlertID means that the id is missing.
type AlertID [20]byte

// Alert is one alert as /api/alerts describes it.
type Alert struct {
	ID       AlertID
	Severity []byte
	Status   []byte
	// AssignedTo is the owner, empty if there is none.
	AssignedTo      []byte
	DetectionSource []byte
	// CreatedAt is the zero time if the API does not return it.
	CreatedAt time.Time
}

// Alerts yields every alert that is not resolved, from GET {api}/api/alerts. An
// alert may be yielded more than once, because the order of pages is not stable. If the
// service rejects the filter with 400, Alerts requests all alerts and filters them.
// Iteration ends after an error.
func (c *Client) Alerts(ctx context.Context) iter.Seq2[*Alert, error] {
	return func(yield func(*Alert, error) bool) {
		all := c.list(Alerts, "")
		unresolved, first := all, *all.first
		first.RawQuery += "&$filter=status+ne+'Resolved'"
		unresolved.first = &first
		for i, l := range [...]list{unresolved, all} {
			began, refused := false, false
			for alert, err := range rows(ctx, c, l, decodeAlert) {
				if refused = i == 0 && !began && isStatus(err, http.StatusBadRequest); refused {
					break
				}
				began = true
				if (err != nil || !bytes.EqualFold(alert.Status, []byte("Resolved"))) && !yield(alert, err) {
					return
				}
			}
			if !refused {
				return
			}
		}
	}
}

func decodeAlert(d *decoder, row []byte, a *Alert) {
	*a = Alert{}
	for name, value := range d.members(row) {
		switch string(name) {
		case "id":
			d.id((*MachineID)(&a.ID), value)
		case "severity":
			a.Severity = d.text(value)
		case "status":
			a.Status = d.text(value)
		case "assignedTo":
			a.AssignedTo = d.text(value)
		case "detectionSource":
			a.DetectionSource = d.text(value)
		case "alertCreationTime":
			a.CreatedAt = d.time(value)
		}
	}
}
