package siprecsrc

import (
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

func TestDefaultConfigIsValid(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

// Each fault is told by its key, its value and the rule, all of them at once.
func TestConfigFaultsNameKeyValueAndRule(t *testing.T) {
	for text, want := range map[string]string{
		"listen: []":                          "listen: must name an address",
		"listen: ['5060']":                    `listen[0]: "5060" must be NETWORK://ADDRESS:PORT`,
		"listen: ['udp://x']":                 `listen[0]: "udp://x" must be NETWORK://ADDRESS:PORT`,
		"listen: ['sctp://0.0.0.0:5060']":     `must begin with udp://, tcp:// or tls://`,
		"listen: ['tls://0.0.0.0:5061']":      `tls.certificate: must be given, and tls.key, for listen[0]`,
		"allow: [10.0.0.1]":                   `allow[0]: "10.0.0.1" must be a network`,
		"contact: sip.example":                `contact: "sip.example" must be an address`,
		"contact: 0.0.0.0":                    `contact: "0.0.0.0" must be an address`,
		"media: {ports: {max: 70000}}":        "media.ports.max: 70000 must be at most 65535",
		"media_from: anywhere":                `media_from: "anywhere" must be offer or any`,
		"calls: 0":                            "calls: 0 must be from 1 to 100000",
		"busy: 500":                           "busy: 500 must be 503 or 486",
		"body_bytes: 1":                       "body_bytes: 1 must be from 4096",
		"session_min: 1s":                     "session_min: 1s must be from 1m30s",
		"plain: both":                         `plain: "both" must be unknown, caller, callee or refuse`,
		"plain: ''":                           `plain: "" must be`,
		"tenant: a.b":                         `tenant: "a.b" must be 1 to 128 letters`,
		"trunks: [{user: x}]":                 "trunks[0].name: must not be empty",
		"trunks: [{name: x, header: y}]":      `trunks[0].header: "y" must be NAME: VALUE`,
		"trunks: [{name: x, peers: [y]}]":     `trunks[0].peers[0]: "y" must be a network`,
		"trunks: [{tenant: '*'}]":             `trunks[0].tenant: "*" must be`,
		"headers: {Consent: X}":               `headers: "Consent" must be an attribute`,
		"headers: {consent: 'X Y'}":           `headers.consent: "X Y" must be the name of a header`,
		"identity: {roots: r.pem}":            `identity.roots: "r.pem" needs certificates`,
		"calls: 0\nbusy: 1\nretry_after: 0s":  "calls: 0 must be from 1 to 100000\nretry_after: 0s must be",
		"busy: 1\nmedia_from: x\ntenant: ' '": `tenant: " "`,
	} {
		cfg := DefaultConfig()
		if err := yaml.Unmarshal([]byte(text), &cfg); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant %s", text, err, want)
		}
	}
}

func TestBucketLetsItsRateThrough(t *testing.T) {
	b := bucket{rate: 10}
	at := time.Unix(1, 0)
	passed := 0
	for range 100 {
		if b.take(at) {
			passed++
		}
	}
	if passed != 20 {
		t.Errorf("%d at once, want 20", passed)
	}
	for range 100 {
		if b.take(at.Add(time.Second)) {
			passed++
		}
	}
	if passed != 30 {
		t.Errorf("%d after a second, want 30", passed)
	}
}
