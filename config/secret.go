package config

import (
	"net/url"
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

// secretURL is a URL whose password prints as "<secret>".
type secretURL string

func (s secretURL) String() string {
	u, err := url.Parse(string(s))
	if err != nil {
		return secret(s).String()
	}
	if _, ok := u.User.Password(); !ok {
		return string(s)
	}
	user := url.User(u.User.Username()).String()
	u.User = nil
	rest := u.String()[len(u.Scheme)+len("://"):]
	return u.Scheme + "://" + user + ":" + masked + "@" + rest
}

func (s secretURL) MarshalYAML() (any, error) { return s.String(), nil }
