//go:build race

package chaos

// The program is built as its test is: with the race detector or without.
const raceDetector = true
