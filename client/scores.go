package client

import (
	"context"
	"iter"
	"math"
	"strconv"
)

// DeviceGroupScore is the exposure score of one device group.
type DeviceGroupScore struct {
	// DeviceGroup is the name of the group, as in Machine.DeviceGroup.
	DeviceGroup []byte
	// Score is 0 (good) to 100, as the API returns it.
	Score float64

	known bool
}

// ExposureScore returns the organization's exposure score, 0 (good) to 100, from
// GET {api}/api/exposureScore.
func (c *Client) ExposureScore(ctx context.Context) (float64, error) {
	return single(ctx, c, ExposureScore, "", decodeScore)
}

// DeviceSecureScore returns the Microsoft Secure Score for Devices in points, from
// GET {api}/api/configurationScore.
func (c *Client) DeviceSecureScore(ctx context.Context) (float64, error) {
	return single(ctx, c, DeviceSecureScore, "", decodeScore)
}

// DeviceGroupExposureScores yields the exposure score of every device group that
// has one, from GET {api}/api/exposureScore/ByMachineGroups. Iteration ends after an
// error.
func (c *Client) DeviceGroupExposureScores(ctx context.Context) iter.Seq2[*DeviceGroupScore, error] {
	return func(yield func(*DeviceGroupScore, error) bool) {
		for score, err := range rows(ctx, c, c.list(DeviceGroupExposureScore, ""), decodeDeviceGroupScore) {
			if (err != nil || score.known) && !yield(score, err) {
				return
			}
		}
	}
}

// decodeScore reads the response of an API that returns one score. A missing score is an
// error, because 0 is the best score.
func decodeScore(d *decoder, row []byte, score *float64) {
	known := false
	for name, value := range d.members(row) {
		switch string(name) {
		case "score":
			*score, known = d.score(value)
		default:
			d.readError(string(name), value)
		}
	}
	if !known && d.serviceErr == nil {
		d.fail("score is missing")
	}
}

func decodeDeviceGroupScore(d *decoder, row []byte, s *DeviceGroupScore) {
	*s = DeviceGroupScore{}
	for name, value := range d.members(row) {
		switch string(name) {
		case "rbacGroupName":
			s.DeviceGroup = d.text(value)
		case "score":
			s.Score, s.known = d.score(value)
		}
	}
}

// score reads a score, as a number or as a string. known is false for null and other
// types. A text that is not a valid score is an error.
func (d *decoder) score(value []byte) (score float64, known bool) {
	text := d.text(value)
	if len(text) == 0 {
		return 0, false
	}
	score, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsNaN(score) || math.IsInf(score, 0) || score < 0 {
		d.fail("%q is not a score", text)
		return 0, false
	}
	return score, true
}
