package sipmeta

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var when = time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)

// authority signs calls, as a carrier does.
type authority struct {
	key  *ecdsa.PrivateKey
	cert []byte // PEM
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: when.Add(-time.Hour), NotAfter: when.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a authority) sign(t testing.TB, header, claims string) string {
	t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	signed := enc([]byte(header)) + "." + enc([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + enc(sig[:]) + ";info=<https://certs.example/carrier.pem>;alg=ES256;ppt=shaken"
}

const (
	shaken = `{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"https://certs.example/carrier.pem"}`
	claim  = `{"attest":"A","dest":{"tn":["15550199"]},"iat":1767607200,"orig":{"tn":"15550100"},"origid":"123e4567-e89b"}`
)

func write(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func headers(all map[string][]string) Header { return func(name string) []string { return all[name] } }

func TestHeadersBecomeAttributes(t *testing.T) {
	carrier, stranger := newAuthority(t, "Example Carrier SHAKEN"), newAuthority(t, "Stranger")
	dir, none := t.TempDir(), t.TempDir()
	root := write(t, t.TempDir(), "roots.pem", carrier.cert)
	otherRoot := write(t, t.TempDir(), "roots.pem", stranger.cert)
	write(t, dir, "carrier.pem", carrier.cert)
	elsewhere := t.TempDir()
	write(t, elsewhere, "other-name.pem", carrier.cert)
	good := carrier.sign(t, shaken, claim)
	part := strings.Split(good, ".")
	part[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(claim, "e89b", "ffff", 1)))
	tampered := strings.Join(part, ".")

	signed := func(verdict, why, signer string) map[string]string {
		a := map[string]string{
			"identity_attest": "A", "identity_orig": "15550100", "identity_dest": "15550199", "identity_verified": verdict,
		}
		set(a, "identity_why", why)
		set(a, "identity_signer", signer)
		return a
	}
	const name = "Example Carrier SHAKEN"
	for _, c := range []struct {
		name    string
		store   StoreConfig
		headers map[string][]string
		now     time.Time
		want    map[string]string
	}{
		{"nothing said", StoreConfig{}, nil, when, map[string]string{}},
		{
			"no store",
			StoreConfig{},
			map[string][]string{"Identity": {good}},
			when, signed("unverified", "no certificates are configured", ""),
		},
		{
			"an empty store",
			StoreConfig{Certificates: none},
			map[string][]string{"Identity": {good}},
			when, signed("unverified", "no certificates are configured", ""),
		},
		{
			"the signer is known",
			StoreConfig{Certificates: dir, MaxAge: time.Minute},
			map[string][]string{"Identity": {good}},
			when, signed("yes", "", name),
		},
		{
			"known under another name",
			StoreConfig{Certificates: elsewhere},
			map[string][]string{"Identity": {good}},
			when, signed("yes", "", name),
		},
		{
			"and trusted",
			StoreConfig{Certificates: dir, Roots: root},
			map[string][]string{"Identity": {good}},
			when, signed("yes", "", name),
		},
		{
			"but not trusted",
			StoreConfig{Certificates: dir, Roots: otherRoot},
			map[string][]string{"Identity": {good}},
			when, signed("no", "the signer's certificate is not trusted", name),
		},
		{
			"signed long ago",
			StoreConfig{Certificates: dir, MaxAge: time.Minute},
			map[string][]string{"Identity": {good}},
			when.Add(2 * time.Minute), signed("no", "signed at another time", name),
		},
		{
			"the certificate has ended",
			StoreConfig{Certificates: dir},
			map[string][]string{"Identity": {good}},
			when.Add(2 * time.Hour), signed("no", "the signer's certificate is out of date", name),
		},
		{
			"signed by somebody else in the carrier's name",
			StoreConfig{Certificates: dir},
			map[string][]string{"Identity": {stranger.sign(t, shaken, claim)}},
			when,
			signed("no", errSignature.Error(), ""),
		},
		{
			"signed by somebody unknown",
			StoreConfig{Certificates: elsewhere},
			map[string][]string{"Identity": {stranger.sign(t, shaken, claim)}},
			when,
			signed("unverified", "the signer's certificate is not in the store", ""),
		},
		{
			"one good and one bad",
			StoreConfig{Certificates: dir},
			map[string][]string{"Identity": {good, stranger.sign(t, shaken, claim)}},
			when,
			signed("no", errSignature.Error(), name),
		},
		{
			"tampered with",
			StoreConfig{Certificates: dir},
			map[string][]string{"Identity": {tampered}},
			when, signed("no", errSignature.Error(), ""),
		},
		{
			"no token",
			StoreConfig{Certificates: dir},
			map[string][]string{"Identity": {"hello", "..sig;info=<x>"}},
			when,
			map[string]string{"identity_verified": "unverified", "identity_why": "the Identity header cannot be read"},
		},
		{
			"asserted by the network",
			StoreConfig{},
			map[string][]string{
				"P-Asserted-Identity": {`"Bank, Example" <sip:+15550100;verstat=TN-Validation-Failed@carrier.test;user=phone>, <tel:+15550111>`},
				"From":                {`"x" <sip:+1@a;verstat=No-TN-Validation>`},
			},
			when,
			map[string]string{
				"asserted_number": "+15550100", "asserted_name": "Bank, Example", "identity_verstat": "TN-Validation-Failed",
			},
		},
		{
			"rich call data",
			StoreConfig{},
			map[string][]string{
				"Identity": {carrier.sign(t, `{"alg":"ES256","ppt":"rcd"}`,
					`{"rcd":{"nam":"Example\u0000 Shop","jcl":"https://x"},"crn":"Your parcel","iat":"1767607200","orig":{"tn":15550100},"dest":{"uri":"sip:bob@b.test"}}`)},
				"Call-Info": {`<https://x/card.json>;purpose=jcard;call-reason="Something else"`},
			},
			when,
			map[string]string{
				"identity_verified": "unverified", "identity_why": "no certificates are configured",
				"identity_orig": "15550100", "identity_dest": "bob", "rcd_name": "Example Shop", "rcd_reason": "Your parcel",
			},
		},
		{
			"a reason without a signature",
			StoreConfig{},
			map[string][]string{"Call-Info": {`<cid:1>;purpose=icon, <cid:2> ; call-reason = "For \"you\""`}},
			when,
			map[string]string{"rcd_reason": `For "you"`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := OpenStore(c.store)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Attributes(headers(c.headers), c.now); !maps.Equal(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestSignatureForAnotherNumberIsFailed(t *testing.T) {
	for _, c := range []struct {
		orig, from string
		want       Verdict
	}{
		{"15550100", "+15550100", Verified},
		{"15550100", "5550100", Verified},
		{"442071838750", "02071838750", Verified},
		{"15550100", "+15550111", Failed},
		{"15550100", "anonymous", Verified},
		{"", "+15550111", Verified},
	} {
		a := map[string]string{IdentityVerified: string(Verified), IdentityOrig: c.orig, From: c.from}
		Compare(a)
		if a[IdentityVerified] != string(c.want) {
			t.Errorf("signed for %q, called from %q: %q, want %q", c.orig, c.from, a[IdentityVerified], c.want)
		}
	}
}

func TestStoreNamesWhatItCannotUse(t *testing.T) {
	bad := t.TempDir()
	write(t, bad, "x.pem", []byte("hello"))
	good := t.TempDir()
	write(t, good, "a.pem", newAuthority(t, "a").cert)
	for _, c := range []struct {
		cfg  StoreConfig
		want string
	}{
		{StoreConfig{Certificates: filepath.Join(bad, "none")}, "none"},
		{StoreConfig{Certificates: bad}, "x.pem holds no PEM certificate"},
		{StoreConfig{Certificates: good, Roots: filepath.Join(bad, "x.pem")}, "x.pem holds no PEM certificate"},
		{StoreConfig{Roots: "r.pem"}, `roots: "r.pem" needs certificates`},
		{StoreConfig{MaxAge: -1}, "max_age: -1ns must be at least 0s"},
	} {
		if _, err := OpenStore(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

func TestNumberIsReadFromAnyURI(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:+15550100@host":                        "+15550100",
		"sip:+1-555-0100;noa=3;srvattri=x@host;a=b": "+15550100",
		"SIPS:5550100:secret@host:5061":             "5550100",
		"tel:+1(555)0100;phone-context=x":           "+15550100",
		"sip:%2B15550100@h":                         "+15550100",
		"sip:Anonymous@anonymous.invalid":           "anonymous",
		"sip:alice@a.test":                          "alice",
		"sip:host.only":                             "",
		"+15550100":                                 "+15550100",
		"5550100@host":                              "5550100",
		"":                                          "",
		"sip:@host":                                 "",
		"tel:" + strings.Repeat("1", 65):            strings.Repeat("1", 65),
		"sip:a\x00b\u202ec@host":                    "abc",
		"sip:" + strings.Repeat("x", 300) + "@host.co": strings.Repeat("x", maxName),
	} {
		if got := Number(uri); got != want {
			t.Errorf("%q: %q, want %q", uri, got, want)
		}
	}
}

func TestAddressIsTakenApart(t *testing.T) {
	for value, want := range map[string][2]string{
		`"Ann \"A\" <x>" <sip:a@b>;tag=1`: {`Ann "A" <x>`, "sip:a@b"},
		`Ann Example <sip:a@b;x=y>`:       {"Ann Example", "sip:a@b;x=y"},
		`sip:a@b;tag=1`:                   {"", "sip:a@b"},
		`<sip:a@b`:                        {"", "sip:a@b"},
		`"open`:                           {"", ""},
		"":                                {"", ""},
	} {
		if name, uri := Address(value); name != want[0] || uri != want[1] {
			t.Errorf("%q: %q %q, want %q", value, name, uri, want)
		}
	}
}

// Whatever the headers, what is said of the call is short and printable, and
// no signature is verified without a certificate.
func FuzzIdentity(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	a := authority{key: key}
	f.Add(a.sign(f, shaken, claim), `"Bank, Example" <sip:+15550100;verstat=x@c>`, `<https://x>;call-reason="y"`)
	f.Add(a.sign(f, `{"alg":1}`, `[]`), `<`, `;call-reason=`)
	f.Add("..sig;info=<x>", `"`, `"\`)
	f.Add("a.b.c", `tel:1,tel:2`, `,,,`)
	f.Fuzz(func(t *testing.T, identity, asserted, info string) {
		var s *Store
		got := s.Attributes(headers(map[string][]string{
			"Identity": {identity}, "P-Asserted-Identity": {asserted}, "Call-Info": {info}, "From": {asserted},
		}), when)
		for key, value := range got {
			if value == "" || len([]rune(value)) > maxName || Name(value) != value {
				t.Errorf("%s is %q", key, value)
			}
		}
		if got[IdentityVerified] == string(Verified) {
			t.Error("verified without a certificate")
		}
		if _, err := ParseIdentity(identity); err != nil && !errors.Is(err, ErrIdentity) {
			t.Errorf("error %v", err)
		}
	})
}
