// Package chaos holds no code but tests: the exporter, as a program and in fake
// time, against far ends that fail at random. A witness beside the far end counts
// by itself what was served, and each scrape must agree with it.
package chaos
