package client

import (
	"context"
	"iter"
)

// Machines yields every machine of GET {api}/api/machines, merged and not
// onboarded ones included. A machine may come more than once: the order is not
// stable from page to page. After an error nothing more is yielded.
func (c *Client) Machines(ctx context.Context) iter.Seq2[*Machine, error] {
	return rows(ctx, c, c.list(Machines, ""), decodeMachine)
}

func decodeMachine(d *decoder, m *Machine) {
	*m = Machine{}
	d.entity()
	for d.object(); d.member(); {
		switch string(d.name) {
		case "id":
			m.ID, m.RawID = d.id()
		case "mergedIntoMachineId":
			if text := d.text(); len(text) > 0 {
				m.Merged, m.MergedInto, m.RawMergedInto = true, machineID(text), text
			}
		case "computerDnsName":
			m.ComputerDNSName = d.text()
		case "osPlatform":
			m.OSPlatform = d.text()
		case "osBuild":
			m.OSBuild = d.text()
		case "osVersion":
			m.OSVersion = d.text()
		case "osProcessor":
			m.OSProcessor = d.text()
		case "osArchitecture":
			m.OSArchitecture = d.text()
		case "healthStatus":
			m.HealthStatus = d.text()
		case "onboardingStatus":
			m.OnboardingStatus = d.text()
		case "riskScore":
			m.RiskScore = d.text()
		case "exposureLevel":
			m.ExposureLevel = d.text()
		case "lastSeen":
			m.LastSeen = d.time()
		default:
			d.skip()
		}
	}
}
