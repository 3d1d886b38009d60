package config

import (
	"github.com/mde-exporter/mde_exporter/client"
)

const masked = "<secret>"

// secret is text that is always printed as "<secret>".
type secret string

func (s secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

func (s secret) MarshalYAML() (any, error) { return s.String(), nil }

// secretURL is a URL that is printed without its secret parts.
type secretURL string

func (s secretURL) String() string { return client.MaskURL(string(s)) }

func (s secretURL) MarshalYAML() (any, error) { return s.String(), nil }
