// Package webhooksink posts events to web servers as signed webhooks, by the
// Standard Webhooks specification: three headers, HMAC-SHA256, and an id that
// stays the same however often an event is sent.
package webhooksink

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// Config says where events go. All but Endpoints holds for each endpoint.
type Config struct {
	Endpoints []Endpoint `yaml:"endpoints"`

	Timeout time.Duration `yaml:"timeout"` // of one attempt, its answer included
	AtOnce  int           `yaml:"at_once"` // attempts at a time; those of one call come one after the other
	// After a failure comes a pause, RetryFirst at first, which doubles up to
	// RetryMost; the server may ask for a longer one.
	RetryFirst time.Duration `yaml:"retry_first"`
	RetryMost  time.Duration `yaml:"retry_most"`
	GiveUp     time.Duration `yaml:"give_up"` // an event that is so old is not sent any more
	// What waits, in memory. When it is full, new events are lost and counted:
	// neither the calls nor other endpoints wait for a server that is away.
	QueueEvents int `yaml:"queue_events"`
	QueueBytes  int `yaml:"queue_bytes"`
}

// Endpoint is one web server and what it is told.
type Endpoint struct {
	Name string `yaml:"name"` // in logs and metrics
	URL  string `yaml:"url"`
	// SecretFile holds what requests are signed with: whsec_ and 24 to 64 bytes
	// in base64. With several lines each signs, for the time of a change.
	SecretFile string `yaml:"secret_file"`

	Types []string `yaml:"types"` // of events; empty is all that are not passing
	// Level is the least of a call: nothing of a call is sent before that has
	// reached it. What people do about calls is sent regardless.
	Level   string   `yaml:"level"`
	Tenants []string `yaml:"tenants"` // empty is all

	CA   string `yaml:"ca"`   // PEM file of the authorities that the server's certificate must come from; empty: the system's
	Cert string `yaml:"cert"` // PEM file of a certificate to show
	Key  string `yaml:"key"`  // PEM file of its key
}

// DefaultConfig is all but the endpoints.
func DefaultConfig() Config {
	return Config{
		Timeout: 10 * time.Second, AtOnce: 8,
		RetryFirst: time.Second, RetryMost: time.Minute,
		GiveUp:      time.Hour,
		QueueEvents: 10_000, QueueBytes: 16 << 20,
	}
}

// Types that an endpoint can be told.
var types = []sink.Type{
	sink.RiskFinding, sink.RiskLevel, sink.CallStarted, sink.CallStatus, sink.CallEnded, sink.CallAction,
	sink.CallLevels, sink.TranscriptSegment,
}

var levels = map[string]callwardenv1.Level{
	"":         callwardenv1.Level_LEVEL_UNSPECIFIED,
	"notice":   callwardenv1.Level_LEVEL_NOTICE,
	"warning":  callwardenv1.Level_LEVEL_WARNING,
	"critical": callwardenv1.Level_LEVEL_CRITICAL,
}

// Validate says what is wrong with c, each fault as "key: value rule". It opens
// no file.
func (c Config) Validate() error {
	var errs []error
	if len(c.Endpoints) == 0 {
		errs = append(errs, errors.New("endpoints: [] must be at least one"))
	}
	names := make(map[string]bool)
	for i, e := range c.Endpoints {
		for _, err := range e.faults() {
			errs = append(errs, fmt.Errorf("endpoints[%d].%w", i, err))
		}
		if names[e.Name] {
			errs = append(errs, fmt.Errorf("endpoints[%d].name: %q is taken by an endpoint before", i, e.Name))
		}
		names[e.Name] = true
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"timeout", c.Timeout}, {"retry_first", c.RetryFirst}, {"give_up", c.GiveUp}} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: %v must be above 0", d.key, d.value))
		}
	}
	if c.RetryMost < c.RetryFirst {
		errs = append(errs, fmt.Errorf("retry_most: %v must be at least retry_first, %v", c.RetryMost, c.RetryFirst))
	}
	for _, n := range []struct {
		key   string
		value int
	}{{"at_once", c.AtOnce}, {"queue_events", c.QueueEvents}, {"queue_bytes", c.QueueBytes}} {
		if n.value < 1 {
			errs = append(errs, fmt.Errorf("%s: %d must be at least 1", n.key, n.value))
		}
	}
	return errors.Join(errs...)
}

func (e Endpoint) faults() (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if e.Name == "" {
		fault(`name: "" must not be empty`)
	}
	// There may be a token in the URL: it is never repeated.
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || u.Host == "":
		fault("url: must be one such as https://hooks.example.com/callwarden")
	case u.Scheme != "https" && u.Scheme != "http":
		fault("url: scheme %q must be https, or http", u.Scheme)
	}
	if e.SecretFile == "" {
		fault(`secret_file: "" must be the name of a file`)
	}
	for i, t := range e.Types {
		if !slices.Contains(types, sink.Type(t)) {
			fault("types[%d]: %q must be a type of event, such as %s", i, t, sink.RiskLevel)
		}
	}
	if _, ok := levels[e.Level]; !ok {
		fault("level: %q must be empty, notice, warning or critical", e.Level)
	}
	if (e.Cert == "") != (e.Key == "") {
		fault("cert: %q and key: %q must both be files, or both be empty", e.Cert, e.Key)
	}
	return errs
}

const (
	secretPrefix            = "whsec_"
	secretLeast, secretMost = 24, 64 // bytes, by the specification
	secretsMost             = 4
)

// readSecrets reads a file of one secret a line. Its errors never repeat one.
func readSecrets(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	secrets, err := parseSecrets(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secrets, nil
}

func parseSecrets(text string) (all [][]byte, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		encoded, ok := strings.CutPrefix(line, secretPrefix)
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(secret) < secretLeast || len(secret) > secretMost {
			return nil, fmt.Errorf("line %d must be %s and %d to %d bytes in base64, as of: openssl rand -base64 32", n, secretPrefix, secretLeast, secretMost)
		}
		all = append(all, secret)
	}
	if len(all) == 0 || len(all) > secretsMost {
		return nil, fmt.Errorf("%d secrets must be 1 to %d, one a line", len(all), secretsMost)
	}
	return all, nil
}

// tlsConfig reads the endpoint's files.
func (e Endpoint) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CA != "" {
		pem, err := os.ReadFile(e.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no certificate", e.CA)
		}
	}
	if e.Cert != "" {
		cert, err := tls.LoadX509KeyPair(e.Cert, e.Key)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}
