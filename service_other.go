//go:build !windows

package main

import "errors"

// runService fails: only Windows has the services that it is for.
func runService(program) error { return errors.New("--service: only for Windows: leave it out") }
