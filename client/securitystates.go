package client

import (
	"context"
	"iter"
)

// SecurityStates yields the security state of every machine, from the preview
// GET {graph}/testwdatppreview/machinesecuritystates. After an error nothing
// more is yielded.
func (c *Client) SecurityStates(ctx context.Context) iter.Seq2[*SecurityState, error] {
	return rows(ctx, c, c.list(MachineSecurityStates, ""), decodeSecurityState)
}

func decodeSecurityState(d *decoder, s *SecurityState) {
	*s = SecurityState{Properties: s.Properties[:0]}
	d.entity()
	for d.object(); d.member(); {
		switch string(d.name) {
		case "id":
			s.ID, _ = d.id()
		case "build":
			s.Build = d.text()
		case "revision":
			s.Revision = d.text()
		case "architecture":
			s.Architecture = d.text()
		case "propertiesRequireAttention":
			s.Properties = d.list(s.Properties)
		default:
			d.skip()
		}
	}
}
