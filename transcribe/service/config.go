// Package service puts a recogniser behind callwarden.v1.TranscribeService, for
// other processes and other machines.
package service

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/callwarden/callwarden/transcribe/certs"
)

// Config says how a recogniser is served.
type Config struct {
	Listen string `yaml:"listen"` // host:port, or unix:PATH
	// Streams is how many legs are heard at once at most. Fewer are where live
	// audio is heard late: then new streams are refused until it is not.
	Streams int `yaml:"streams"`
	// Grace is how long streams may go on when the server is to end.
	Grace time.Duration `yaml:"grace"`
	// TLS asks for client certificates where its CA is set. Without Cert there
	// is no TLS.
	TLS certs.Files `yaml:"tls"`
	// TokenFile holds the token that every request must carry as
	// "authorization: Bearer TOKEN". Empty asks for none.
	TokenFile string `yaml:"token_file"`

	Version string `yaml:"-"` // told in the capabilities
}

// DefaultConfig listens on the loopback interface.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:7070",
		// A core screens some hundred legs; the load says before that when it
		// is enough. This is against those who open streams and leave them.
		Streams: 200 * runtime.GOMAXPROCS(0),
		Grace:   30 * time.Second,
	}
}

// Validate says which key is wrong, what it holds and what it must hold.
func (c Config) Validate() error {
	switch {
	case c.Listen == "":
		return fmt.Errorf("listen: %q must be host:port or unix:PATH", c.Listen)
	case c.Streams < 1 || c.Streams > 100_000:
		return fmt.Errorf("streams: %d must be from 1 to 100000", c.Streams)
	case c.Grace < 0 || c.Grace > time.Hour:
		return fmt.Errorf("grace: %v must be from 0s to 1h", c.Grace)
	case c.TLS.CA != "" && c.TLS.Cert == "":
		return errors.New("tls.cert: it must be set where tls.ca is")
	}
	if err := c.TLS.Validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	return nil
}

// Open listens at Listen. A socket file that nobody listens on any more is
// replaced.
func Open(listen string) (net.Listener, error) {
	path, unix := strings.CutPrefix(listen, "unix:")
	if !unix {
		return net.Listen("tcp", listen)
	}
	lis, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return lis, err
	}
	if conn, dialled := net.Dial("unix", path); dialled == nil {
		conn.Close()
		return nil, err // somebody does
	}
	info, lost := os.Lstat(path)
	if lost != nil || info.Mode()&fs.ModeSocket == 0 {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

func (c Config) token() (string, error) {
	if c.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	token := string(bytes.TrimSpace(data))
	if len(token) < 16 {
		return "", fmt.Errorf("token_file: the token in %s has %d characters, it must have at least 16", c.TokenFile, len(token))
	}
	return token, nil
}
