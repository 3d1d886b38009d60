package client

import (
	"context"
	"iter"
)

// SecurityState is the security state of one machine, from machinesecuritystates.
//
// Like every entity of this package it is valid until the next one is yielded, because its
// byte slices point into a reused buffer. A field that is missing, null or of an unexpected
// type is empty. Numbers are the decimal text that the API sends.
type SecurityState struct {
	ID           MachineID
	Build        []byte
	Revision     []byte
	Architecture []byte
	// Properties are the names in propertiesRequireAttention, as the API sends them: a
	// name may occur twice.
	Properties TextList
}

// SecurityStates yields the security state of every machine, from the preview
// GET {graph}/testwdatppreview/machinesecuritystates. Iteration ends after an error.
func (c *Client) SecurityStates(ctx context.Context) iter.Seq2[*SecurityState, error] {
	return rows(ctx, c, c.list(MachineSecurityStates, ""), decodeSecurityState)
}

func decodeSecurityState(d *decoder, row []byte, s *SecurityState) {
	*s = SecurityState{}
	for name, value := range d.members(row) {
		switch string(name) {
		case "id":
			d.id(&s.ID, value)
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
