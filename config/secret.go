package config

import (
	"github.com/mde-exporter/mde_exporter/client"
)

const masked = "<secret>"

// secret is text that prints as "<secret>", however it is printed.
type secret string

func (s secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

func (s secret) MarshalYAML() (any, error) { return s.String(), nil }

// secretURL is a URL of which nothing is printed that may be secret.
type secretURL string

func (s secretURL) String() string { return client.MaskURL(string(s)) }

func (s secretURL) MarshalYAML() (any, error) { return s.String(), nil }
