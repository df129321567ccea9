package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSameNumberHasTheSameID(t *testing.T) {
	key := []byte("0123456789abcdef")
	want := NumberID(key, "+44 20 7946 0002")
	for _, same := range []string{"020 7946 0002", "00442079460002", "sip:+442079460002@198.51.100.7:5060", "tel:+44-20-7946-0002"} {
		if got := NumberID(key, same); got != want {
			t.Errorf("%s has %s, want %s", same, got, want)
		}
	}
	for _, other := range []string{"+44 20 7946 0003", "anonymous", "", "12", "sip:anonymous@192.0.2.17"} {
		if got := NumberID(key, other); got == want {
			t.Errorf("%q has the same", other)
		}
	}
	if NumberID([]byte("another key of sixteen"), "+442079460002") == want || NumberID(nil, "+442079460002") != "" {
		t.Error("the key makes no difference")
	}
	if strings.ContainsAny(want, "0123456789") {
		t.Errorf("%s has digits", want)
	}
}

func TestNumberKeyIsMadeOnceAndKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if _, err := ReadNumberKey(file, false); err == nil {
		t.Error("a key was read where there is none")
	}
	one, err := ReadNumberKey(file, true)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ReadNumberKey(file, true)
	if err != nil || string(one) != string(two) {
		t.Errorf("%q, then %q, %v", one, two, err)
	}
	if err := os.WriteFile(file, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadNumberKey(file, true); err == nil || !strings.Contains(err.Error(), "number_key_file") {
		t.Errorf("a short key: %v", err)
	}
}
