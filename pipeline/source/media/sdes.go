package media

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/srtp/v3"
)

// ErrCrypto says that an a=crypto line cannot be used. An offer may have others.
var ErrCrypto = errors.New("crypto not usable")

// Crypto is one a=crypto line of an SDP body, RFC 4568: how a stream is
// encrypted. It holds keys: nothing of it belongs into a log.
type Crypto struct {
	Tag   int
	Suite string
	Keys  []Key
}

// Key is a master key and its salt.
type Key struct {
	material []byte // key, then salt
	MKI      []byte // empty where there is none
	Lifetime string // packets, as it was written; empty where nothing was said
}

// String hides the keys.
func (c Crypto) String() string { return fmt.Sprintf("%d %s", c.Tag, c.Suite) }

// String hides the key.
func (k Key) String() string { return "key" }

// GoString hides the key.
func (k Key) GoString() string { return "key" }

// suites are those of RFC 4568 section 6.2, RFC 6188 and RFC 7714, best last.
var suites = []struct {
	name    string
	profile srtp.ProtectionProfile
}{
	{"AES_CM_128_HMAC_SHA1_32", srtp.ProtectionProfileAes128CmHmacSha1_32},
	{"AES_CM_128_HMAC_SHA1_80", srtp.ProtectionProfileAes128CmHmacSha1_80},
	{"AES_256_CM_HMAC_SHA1_32", srtp.ProtectionProfileAes256CmHmacSha1_32},
	{"AES_256_CM_HMAC_SHA1_80", srtp.ProtectionProfileAes256CmHmacSha1_80},
	{"AEAD_AES_128_GCM", srtp.ProtectionProfileAeadAes128Gcm},
	{"AEAD_AES_256_GCM", srtp.ProtectionProfileAeadAes256Gcm},
}

func profileOf(suite string) (srtp.ProtectionProfile, error) {
	for _, s := range suites {
		if s.name == suite {
			return s.profile, nil
		}
	}
	var names []string
	for _, s := range suites {
		names = append(names, s.name)
	}
	return 0, fmt.Errorf("suite %.40q is not one of %s: %w", suite, strings.Join(names, ", "), ErrCrypto)
}

// lengths of a profile's key and salt; the profiles are those of suites, for
// which the library has both.
func lengths(p srtp.ProtectionProfile) (key, salt int) {
	key, keyErr := p.KeyLen()
	salt, saltErr := p.SaltLen()
	if keyErr != nil || saltErr != nil {
		panic(fmt.Sprintf("media: profile %v without lengths", p))
	}
	return key, salt
}

const (
	maxCryptoLine = 1024
	maxKeys       = 8   // of a line
	maxMKI        = 128 // bytes, RFC 4568 section 6.1
)

// ParseCrypto reads what follows "a=crypto:". An error wraps [ErrCrypto] and
// never shows the key.
func ParseCrypto(line string) (Crypto, error) {
	if len(line) > maxCryptoLine {
		return Crypto{}, fmt.Errorf("crypto line of %d bytes, limit %d: %w", len(line), maxCryptoLine, ErrCrypto)
	}
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return Crypto{}, fmt.Errorf("crypto line must be TAG SUITE KEYS: %w", ErrCrypto)
	}
	tag, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil || len(fields[0]) > 9 {
		return Crypto{}, fmt.Errorf("crypto tag must be a number of up to 9 digits: %w", ErrCrypto)
	}
	c := Crypto{Tag: int(tag), Suite: strings.ToUpper(fields[1])}
	profile, err := profileOf(c.Suite)
	if err != nil {
		return Crypto{}, err
	}
	for k := range strings.SplitSeq(fields[2], ";") {
		key, err := parseKey(k, profile)
		if err != nil {
			return Crypto{}, err
		}
		c.Keys = append(c.Keys, key)
	}
	if err := c.check(); err != nil {
		return Crypto{}, err
	}
	// What a parameter asks for must be done or the line refused; those that
	// begin with a dash, and the hint on the window, may be ignored (section
	// 6.3).
	for _, f := range fields[3:] {
		if !strings.HasPrefix(f, "-") && !strings.HasPrefix(f, "WSH=") {
			name, _, _ := strings.Cut(f, "=")
			return Crypto{}, fmt.Errorf("session parameter %.40q is not supported: %w", name, ErrCrypto)
		}
	}
	return c, nil
}

// check holds what must be true of all keys together.
func (c Crypto) check() error {
	if len(c.Keys) > maxKeys {
		return fmt.Errorf("%d keys, limit %d: %w", len(c.Keys), maxKeys, ErrCrypto)
	}
	for i, k := range c.Keys {
		if len(k.MKI) != len(c.Keys[0].MKI) || len(c.Keys) > 1 && len(k.MKI) == 0 {
			return fmt.Errorf("several keys must have identifiers of one length: %w", ErrCrypto)
		}
		if slices.ContainsFunc(c.Keys[:i], func(o Key) bool { return len(k.MKI) > 0 && string(o.MKI) == string(k.MKI) }) {
			return fmt.Errorf("two keys have the same identifier: %w", ErrCrypto)
		}
	}
	return nil
}

// parseKey reads inline:KEY||SALT[|LIFETIME][|MKI:LENGTH], section 6.1.
func parseKey(s string, profile srtp.ProtectionProfile) (Key, error) {
	method, info, _ := strings.Cut(s, ":")
	if !strings.EqualFold(method, "inline") {
		return Key{}, fmt.Errorf("key method must be inline: %w", ErrCrypto)
	}
	parts := strings.Split(info, "|")
	// Some leave the padding out.
	material, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(parts[0], "="))
	key, salt := lengths(profile)
	if err != nil || len(material) != key+salt {
		return Key{}, fmt.Errorf("key of %v must be %d bytes in base64: %w", profile, key+salt, ErrCrypto)
	}
	k := Key{material: material}
	parts = parts[1:]
	if len(parts) > 0 && !strings.Contains(parts[0], ":") {
		if !isLifetime(parts[0]) {
			return Key{}, fmt.Errorf("key lifetime must be a number or 2^number: %w", ErrCrypto)
		}
		k.Lifetime, parts = parts[0], parts[1:]
	}
	if len(parts) > 0 {
		if k.MKI, err = parseMKI(parts[0]); err != nil {
			return Key{}, err
		}
		parts = parts[1:]
	}
	if len(parts) > 0 {
		return Key{}, fmt.Errorf("key has %d parts too many: %w", len(parts), ErrCrypto)
	}
	return k, nil
}

func isLifetime(s string) bool {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "2^"), 10, 64)
	return err == nil && n > 0 && (!strings.HasPrefix(s, "2^") || n <= 48)
}

// parseMKI reads VALUE:LENGTH: the value is a number, its length in bytes.
func parseMKI(s string) ([]byte, error) {
	value, length, _ := strings.Cut(s, ":")
	v, err := strconv.ParseUint(value, 10, 64)
	n, lengthErr := strconv.Atoi(length)
	if err != nil || lengthErr != nil || n < 1 || n > maxMKI || n < 8 && v>>(8*n) != 0 {
		return nil, fmt.Errorf("key identifier must be VALUE:LENGTH, with a length of 1 to %d bytes: %w", maxMKI, ErrCrypto)
	}
	mki := make([]byte, n)
	for i := n - 1; i >= 0 && v > 0; i-- {
		mki[i] = byte(v)
		v >>= 8
	}
	return mki, nil
}

// NewCrypto makes a fresh key for what we send, with the tag and the suite of
// the offer's line that is answered.
func NewCrypto(tag int, suite string) (Crypto, error) {
	profile, err := profileOf(suite)
	if err != nil {
		return Crypto{}, err
	}
	key, salt := lengths(profile)
	k := Key{material: make([]byte, key+salt)}
	if _, err := rand.Read(k.material); err != nil {
		return Crypto{}, fmt.Errorf("making a key: %w", err)
	}
	return Crypto{Tag: tag, Suite: suite, Keys: []Key{k}}, nil
}

// Line is what follows "a=crypto:", with the keys.
func (c Crypto) Line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s ", c.Tag, c.Suite)
	for i, k := range c.Keys {
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString("inline:" + base64.StdEncoding.EncodeToString(k.material))
		if k.Lifetime != "" {
			b.WriteString("|" + k.Lifetime)
		}
		if len(k.MKI) > 0 {
			v := uint64(0)
			for _, m := range k.MKI {
				v = v<<8 | uint64(m)
			}
			fmt.Fprintf(&b, "|%d:%d", v, len(k.MKI))
		}
	}
	return b.String()
}

// Equal reports whether both say the same.
func (c Crypto) Equal(o Crypto) bool {
	return c.Tag == o.Tag && c.Suite == o.Suite && slices.EqualFunc(c.Keys, o.Keys, func(a, b Key) bool {
		return string(a.material) == string(b.material) && string(a.MKI) == string(b.MKI)
	})
}

// replayWindow is how many packets back a packet may be, RFC 3711 section
// 3.3.2: more than the reorder window can hold.
const replayWindow = 256

// NewContext returns what decrypts, or encrypts, a stream of c, one direction
// only.
func (c Crypto) NewContext() (*srtp.Context, error) {
	profile, err := profileOf(c.Suite)
	if err != nil {
		return nil, err
	}
	if len(c.Keys) == 0 {
		return nil, fmt.Errorf("no key: %w", ErrCrypto)
	}
	key, salt := lengths(profile)
	for _, k := range c.Keys {
		if len(k.material) != key+salt {
			return nil, fmt.Errorf("key of %d bytes must be of %d: %w", len(k.material), key+salt, ErrCrypto)
		}
	}
	first := c.Keys[0]
	ctx, err := srtp.CreateContext(first.material[:key], first.material[key:], profile,
		srtp.MasterKeyIndicator(first.MKI), srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", c.Suite, err)
	}
	for _, k := range c.Keys[1:] {
		if err := ctx.AddCipherForMKI(k.MKI, k.material[:key], k.material[key:]); err != nil {
			return nil, fmt.Errorf("opening %s: %w", c.Suite, err)
		}
	}
	return ctx, nil
}
