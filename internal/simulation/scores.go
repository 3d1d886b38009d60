package simulation

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// Scores are the tenant's scores.
type Scores struct {
	// Exposure is from 0 (good) to 100, for the tenant and each device group.
	Exposure float64
	Groups   map[string]float64
	// DeviceSecure is the Microsoft Secure Score for Devices, in points.
	DeviceSecure float64
}

// Scores returns the scores at the view's moment.
func (v View) Scores() Scores {
	d := newDice(v.fleet.seed, -1<<32)
	s := Scores{Exposure: 20 + float64(d.below(2000))/100, Groups: map[string]float64{}, DeviceSecure: float64(300 + d.below(400))}
	for _, g := range append(serverGroups[:1:1], groups[:len(groups)-1]...) {
		s.Groups[g.value] = s.Exposure + float64(d.below(2000))/100 - 10
	}
	if v.fleet.story.Scores != nil {
		v.fleet.story.Scores(&s, v.since)
	}
	return s
}

// exposureScore serves GET /api/exposureScore.
func (x *exchange) exposureScore() { x.score("ExposureScore", x.Now().Scores().Exposure) }

// configurationScore serves GET /api/configurationScore.
func (x *exchange) configurationScore() {
	x.score("ConfigurationScore", x.Now().Scores().DeviceSecure)
}

func (x *exchange) score(set string, score float64) {
	x.response.json(http.StatusOK, map[string]any{
		"@odata.context": x.origin() + "/api/$metadata#" + set + "/$entity", "time": time.Now().UTC(), "score": score,
	})
}

// groupScores serves GET /api/exposureScore/ByMachineGroups. The group of
// machines without a device group has no id.
func (x *exchange) groupScores() {
	x.call.View = x.Now()
	scores := x.call.View.Scores().Groups
	x.list("/api/$metadata#ExposureScore", -1, "", func(p *page) {
		for _, name := range slices.Sorted(maps.Keys(scores)) {
			p.row()
			p.ago("time", x.call.View.at, 0, ``)
			p.float("score", scores[name])
			p.text("rbacGroupName", name)
			if id := groupID(name); id != 0 {
				p.int("rbacGroupId", id)
			}
			p.raw(`}`)
		}
	})
}
