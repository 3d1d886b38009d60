//go:build !windows

package main

import "errors"

// runService returns an error: services are only supported on Windows.
func runService(program) error {
	return errors.New("--service: only supported on Windows: remove the flag")
}
