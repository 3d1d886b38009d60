package client

import (
	"context"
	"iter"
)

// SecurityState is one machine as machinesecuritystates describes it.
//
// Like every entity in this package it is valid until the next one is yielded:
// its byte slices point into a buffer that is used again. A field that is
// missing, null or of an unexpected type is empty; numbers keep the spelling of
// the API.
type SecurityState struct {
	ID           MachineID
	Build        []byte
	Revision     []byte
	Architecture []byte
	// Properties are the names of propertiesRequireAttention, as sent: a name
	// may occur twice.
	Properties TextList
}

// SecurityStates yields the security state of every machine, from the preview
// GET {graph}/testwdatppreview/machinesecuritystates. After an error nothing
// more is yielded.
func (c *Client) SecurityStates(ctx context.Context) iter.Seq2[*SecurityState, error] {
	return rows(ctx, c, c.list(MachineSecurityStates, ""), decodeSecurityState)
}

func decodeSecurityState(d *decoder, row []byte, s *SecurityState) {
	*s = SecurityState{}
	for name, value := range d.members(row) {
		switch string(name) {
		case "id":
			s.ID, _ = d.id(value)
		case "build":
			s.Build = d.text(value)
		case "revision":
			s.Revision = d.text(value)
		case "architecture":
			s.Architecture = d.text(value)
		case "propertiesRequireAttention":
			s.Properties = d.list(value)
		}
	}
}
