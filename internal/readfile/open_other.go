//go:build !unix

package readfile

// nonblock is empty where opening a file waits for nobody.
const nonblock = 0
