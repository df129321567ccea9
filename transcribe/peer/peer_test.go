package peer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAddressesAreReadOrRefused(t *testing.T) {
	for in, want := range map[string]string{
		"a:1":               "ws://a:1",
		"ws://a:1":          "ws://a:1",
		"wss://a:1/x/y":     "wss://a:1/x/y",
		"ws://[::1]:2700":   "ws://[::1]:2700",
		"http://a:1":        "",
		"a":                 "",
		"ws://":             "",
		":1":                "",
		"a:":                "",
		"ws://user@host:1":  "",
		"ws://a:1/?k=v":     "",
		"ws://a:1 ws://b:2": "",
	} {
		a, err := ParseAddress(in, "ws", "wss")
		if got := a.String(); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestServersThatFailedLatelyAreAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet("server", "a", "b", "c")
		var asked []int
		broken := map[int]bool{0: true}
		try := func() error {
			asked = nil
			return s.Try(t.Context(), time.Second, func(_ context.Context, i int) error {
				asked = append(asked, i)
				if broken[i] {
					return errors.New("refused")
				}
				return nil
			})
		}
		check := func(want ...int) {
			t.Helper()
			if !slices.Equal(asked, want) {
				t.Errorf("asked %v, want %v", asked, want)
			}
		}
		if err := try(); err != nil {
			t.Fatal(err)
		}
		check(0, 1)
		if err := try(); err != nil {
			t.Fatal(err)
		}
		check(1)
		time.Sleep(downFor) //nolint:forbidigo // the bubble's clock
		if err := try(); err != nil {
			t.Fatal(err)
		}
		check(0, 1)
		broken[1], broken[2] = true, true
		err := try()
		for _, name := range []string{"server a: refused", "server b: refused", "server c: refused"} {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v does not say %q", err, name)
			}
		}
	})
}

func TestAnEndedContextIsNoFaultOfTheServer(t *testing.T) {
	s := NewSet("server", "a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := s.Try(ctx, time.Second, func(ctx context.Context, _ int) error { calls++; cancel(); return ctx.Err() })
	if err != context.Canceled || calls != 1 { //nolint:errorlint // it is not wrapped
		t.Errorf("%v after %d calls", err, calls)
	}
	if order := s.order(time.Now()); order[0] != 0 {
		t.Errorf("%v: a is taken to be down", order)
	}
}

func TestSecretsAreOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, tt := range [][2]string{{"abc\n", "abc"}, {" abc ", "abc"}, {"abc\ndef", "abc"}, {"", ""}, {"a\x00b", ""}, {"ü", ""}} {
		content, want := tt[0], tt[1]
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadSecret(path); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
}
