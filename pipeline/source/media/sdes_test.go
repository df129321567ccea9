package media

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const key30 = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj" // of RFC 4568 section 6.1, with padding left out

var cryptoLines = []struct {
	line string
	want string // of Line; "" for the same
	err  string
}{
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30},
	{line: "1 AES_CM_128_HMAC_SHA1_32 inline:" + key30 + "|2^20"},
	{line: "007 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1:4", want: "7 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1:4"},
	{line: "2 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:4;inline:" + key30 + "|2^20|2:4"},
	{line: "1  aes_cm_128_hmac_sha1_80   INLINE:" + key30 + "|1048576 WSH=128 -FOO", want: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1048576"},
	{line: "3 AES_256_CM_HMAC_SHA1_80 inline:" + strings.Repeat("A", 60) + "AA==", err: "", want: "3 AES_256_CM_HMAC_SHA1_80 inline:" + strings.Repeat("A", 62) + "=="},
	{line: "4 AEAD_AES_128_GCM inline:" + strings.Repeat("A", 38) + "==", want: "4 AEAD_AES_128_GCM inline:" + strings.Repeat("A", 38) + "=="},
	{line: "4 AEAD_AES_256_GCM inline:" + strings.Repeat("A", 59), want: "4 AEAD_AES_256_GCM inline:" + strings.Repeat("A", 59) + "="},

	{line: "", err: "TAG SUITE KEYS"},
	{line: "1 AES_CM_128_HMAC_SHA1_80", err: "TAG SUITE KEYS"},
	{line: "x AES_CM_128_HMAC_SHA1_80 inline:" + key30, err: "tag"},
	{line: "1234567890 AES_CM_128_HMAC_SHA1_80 inline:" + key30, err: "tag"},
	{line: "1 F8_128_HMAC_SHA1_80 inline:" + key30, err: `suite "F8_128_HMAC_SHA1_80" is not one of`},
	{line: "1 AES_CM_128_HMAC_SHA1_80 uri:" + key30, err: "inline"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA", err: "30 bytes"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "AAAA", err: "30 bytes"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:****", err: "30 bytes"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^49", err: "lifetime"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|0", err: "lifetime"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1:0", err: "identifier"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1:129", err: "identifier"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|256:1", err: "identifier"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:4|x", err: "too many"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + ";inline:" + key30, err: "several keys"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1:4;inline:" + key30 + "|1:4", err: "same identifier"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNENCRYPTED_SRTP", err: "UNENCRYPTED_SRTP"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " KDR=3", err: "KDR"},
	{line: "1 AES_CM_128_HMAC_SHA1_80 " + strings.Repeat("A", 2000), err: "limit 1024"},
}

func TestParseCryptoReadsRFC4568(t *testing.T) {
	for _, tt := range cryptoLines {
		c, err := ParseCrypto(tt.line)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, ErrCrypto) {
				t.Errorf("%.60q: error %v, want one with %q", tt.line, err, tt.err)
			} else if strings.Contains(err.Error(), key30) {
				t.Errorf("%.60q: the error shows the key", tt.line)
			}
			continue
		}
		if err != nil {
			t.Errorf("%.60q: %v", tt.line, err)
			continue
		}
		want := tt.want
		if want == "" {
			want = tt.line
		}
		if got := c.Line(); got != want {
			t.Errorf("%.60q becomes %q, want %q", tt.line, got, want)
		}
		if _, err := c.NewContext(); err != nil {
			t.Errorf("%.60q: %v", tt.line, err)
		}
		for _, shown := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
			if strings.Contains(shown, key30) || strings.Contains(shown, "material") {
				t.Errorf("%q shows the key", shown)
			}
		}
	}
}

func TestNewCryptoMakesAFreshKeyForEverySuite(t *testing.T) {
	for _, s := range suites {
		a, err := NewCrypto(3, s.name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewCrypto(3, s.name)
		if err != nil {
			t.Fatal(err)
		}
		if a.Line() == b.Line() || a.Equal(b) {
			t.Errorf("%s: keys are not fresh", s.name)
		}
		if again, err := ParseCrypto(a.Line()); err != nil || !again.Equal(a) {
			t.Errorf("%s: read back as %v, %v", s.name, again, err)
		}
	}
}

// What is read can be written, read again and used; nothing panics.
func FuzzParseCrypto(f *testing.F) {
	for _, tt := range cryptoLines {
		f.Add(tt.line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ParseCrypto(line)
		if err != nil {
			if !errors.Is(err, ErrCrypto) {
				t.Fatalf("%v is no crypto error", err)
			}
			return
		}
		if _, err := c.NewContext(); err != nil {
			t.Fatalf("%q is read but cannot be used: %v", line, err)
		}
		if len(c.Keys[0].MKI) > 8 {
			return // longer than the number that is written
		}
		again, err := ParseCrypto(c.Line())
		if err != nil || !again.Equal(c) {
			t.Fatalf("%q is written as %q: %v", line, c.Line(), err)
		}
	})
}
