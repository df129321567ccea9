package pipeline

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"os"
	"strings"
)

// A number's id stands for it in events where the number itself is masked: the
// same number has the same id, and only who has the key can say whose id it
// is. So calls of a number are found, and deleted, that nobody can read.

// numberDigits is how many of a number's last digits count: a country's prefix
// is written or not, and the rest is long enough to be somebody's.
const numberDigits = 9

// numberLeast is how many digits make a number that has an id.
const numberLeast = 3

// numberKeyLeast is how long a key must be, in bytes.
const numberKeyLeast = 16

// NumberID is the id of a number as people and SIP write it: +1 202 555 0123,
// 0044…, sip:+12025550123@host. It is empty where there are too few digits, or
// no key.
func NumberID(key []byte, number string) string {
	if len(key) == 0 {
		return ""
	}
	if user, _, isAddress := strings.Cut(number, "@"); isAddress {
		number = user
	}
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, number)
	if len(digits) < numberLeast {
		return ""
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(digits[max(len(digits)-numberDigits, 0):]))
	return numberEncoding.EncodeToString(h.Sum(nil)[:10])
}

// numberEncoding has no digits, so that nobody takes an id for a number.
var numberEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyzABCDEF").WithPadding(base32.NoPadding)

// ReadNumberKey reads a key from a file. Where there is none and make is true
// it makes one.
func ReadNumberKey(file string, make bool) ([]byte, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && make {
		data = []byte(rand.Text() + "\n")
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("number_key_file: %w", err)
	}
	key := bytes.TrimSpace(data)
	if len(key) < numberKeyLeast {
		return nil, fmt.Errorf("number_key_file: %s has %d bytes and must have at least %d", file, len(key), numberKeyLeast)
	}
	return key, nil
}
