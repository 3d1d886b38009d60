// Package chaos contains only tests: the exporter, as a program and in fake time,
// against simulated tenants that fail at random. An oracle records what each
// tenant served, and every scrape must agree with it.
package chaos
