//go:build !unix

package natssink

import "os"

// lockFile opens the file without a lock: flock is Unix. Two servers on one
// folder are not noticed here.
func lockFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
}
