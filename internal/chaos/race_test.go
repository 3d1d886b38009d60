//go:build race

package chaos

// The program is built with the race detector if the test is.
const raceDetector = true
