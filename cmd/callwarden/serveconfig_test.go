package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/cmd/internal/config"
)

const shippedConfig = "../../callwarden.yml"

// leaves lists the paths of all keys below a struct.
func leaves(t reflect.Type, path string, found func(path string)) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case strings.Contains(options, "inline"):
			leaves(f.Type, path, found)
		case f.Type.Kind() == reflect.Struct:
			leaves(f.Type, path+name+".", found)
		default:
			found(path + name)
		}
	}
}

func TestShippedConfigShowsEveryKeyWithItsDefault(t *testing.T) {
	data, err := os.ReadFile(shippedConfig)
	if err != nil {
		t.Fatal(err)
	}
	var got serveConfig
	file := config.Read("callwarden.yml", data, &got)
	if err := file.Err(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	leaves(reflect.TypeFor[serveConfig](), "", func(path string) {
		n := file.Line(path)
		if n == 0 {
			t.Errorf("%s is missing", path)
			return
		}
		if path != "enabled" && !strings.HasSuffix(path, ".enabled") && !strings.Contains(lines[n-1], "#") && !strings.Contains(lines[n-2], "#") {
			t.Errorf("line %d: %s has no comment", n, path)
		}
	})
	want := defaultServeConfig()
	// Empty lists are written, and nil in the defaults.
	if g, w := spell(got), spell(want); g != w {
		t.Errorf("the file is not the defaults:\n%s\nwant\n%s", g, w)
	}
}

func spell(c serveConfig) string {
	var b strings.Builder
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case f.Tag.Get("yaml") == "-":
			case f.Type.Kind() == reflect.Struct:
				walk(v.Field(i), path+f.Name+".")
			case f.Type.Kind() == reflect.Slice && v.Field(i).Len() == 0:
				b.WriteString(path + f.Name + " []\n")
			default:
				fmt.Fprintf(&b, "%s%s %v\n", path, f.Name, v.Field(i).Interface())
			}
		}
	}
	walk(reflect.ValueOf(c), "")
	return b.String()
}

// checkedConfig runs check on a configuration.
func checkedConfig(t *testing.T, text string) (code int, out, errs string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	code = run(t.Context(), []string{"check", "-c", path}, &stdout, &stderr)
	return code, stdout.String(), strings.ReplaceAll(stderr.String(), path, "c.yml")
}

func TestCheckAcceptsAFileOfWhatDiffers(t *testing.T) {
	code, out, errs := checkedConfig(t, "sources: {audiosocket: {enabled: true}}\n")
	if code != exitDone || !strings.Contains(out, "audiosocket") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

func TestCheckSaysAllFaultsAtOnceAndWhatToType(t *testing.T) {
	code, _, errs := checkedConfig(t, `log:
  levels: debug
http:
  listen: 8080
sources:
  rtp:
    enabled: true
    calls: many
    media:
      ports: {min: 20000, max: 70000}
  audiosocket:
    enabled: true
    join_wait: 10s
admit:
  rules:
    - {name: a, then: skip, from: ["+44?"]}
    - {name: a, then: maybe}
risk:
  notice: -1
listen: {mode: half}
transcriber: screen
drain: {grace: 5}
sinks:
  nats: {url: "ftp://x", dedup: 1ms}
calls: {queue_frames: 0}
colour: blue
`)
	if code != exitUsage {
		t.Errorf("exit %d, want %d", code, exitUsage)
	}
	for _, want := range []string{
		`c.yml: line 2: log.levels: is no key that callwarden knows; type: level: …`,
		`c.yml: line 4: http.listen: "8080" must be an address and port, such as 127.0.0.1:8080, or empty; type: listen: "127.0.0.1:8080"  (the default)`,
		`c.yml: line 8: sources.rtp.calls: many must be a whole number; type: calls: 1000  (the default)`,
		`c.yml: line 10: sources.rtp.media.ports.max: 70000 must be`,
		`c.yml: line 13: sources.audiosocket.join_wait: 10s must be 0s to 3s; type: join_wait: 2s  (the default)`,
		`c.yml: line 16: admit.rules[0].from: "+44?" must be a number such as +442071234567`,
		`c.yml: line 17: admit.rules[1].name: "a" is taken by a rule before`,
		`c.yml: line 17: admit.rules[1].then: "maybe" must be listen or skip`,
		`c.yml: line 19: risk.notice: -1 must be above 0; type: notice: 1  (the default)`,
		`c.yml: line 20: listen.mode: "half" must be one of full, screen; type: mode: "screen"  (the default)`,
		`c.yml: line 21: transcriber: must be keys and values; type: backend: …`,
		`c.yml: line 22: drain.grace: 5 must be a duration such as 500ms, 5s or 2h; type: grace: 30s  (the default)`,
		`c.yml: line 24: sinks.nats.url: scheme "ftp" must be nats, tls, ws or wss`,
		`c.yml: line 24: sinks.nats.dedup: 1ms must be at least 1s`,
		`c.yml: line 25: calls.queue_frames: 0 must be at least 1; type: queue_frames: 250  (the default)`,
		`c.yml: line 26: colour: is no key that callwarden knows; type: one of admit, back, calls, `,
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log(errs)
	}
}

func TestCheckRefusesWhatCanNeverWork(t *testing.T) {
	const on = "sources: {audiosocket: {enabled: true}}\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":   {"", "c.yml: sources: none is enabled"},
		"no sink": {on + "sinks: {nats: {enabled: false}}", "sinks: none is enabled"},
		"no YAML": {"log: [", "is no YAML"},
		"route to nobody": {
			on + "transcriber: {mode: inprocess, backend: route, backends: {near: {backend: vosk}}, routing: {rules: [{backend: far}]}}",
			`transcriber.routing.rules: "far" must be one of the backends: near`,
		},
		"no remote":     {on + "transcriber: {mode: remote}", "transcriber.remote.addresses: none is given"},
		"no transcript": {on + "transcriber: {mode: inprocess, backend: script}", `transcriber.backend: "script" must be one of vosk`},
		"a tab":         {"log:\n\tlevel: info", "line 2: is no YAML"},
		"a list":        {"- log", "must be keys and values"},
		"twice":         {on + "log: {level: info, level: warn}", "level"},
		"an alias":      {"log: &a {level: info}\nhttp: *a", "anchors and aliases are not taken"},
		"two stdouts":   {on + "sinks: {json: {enabled: true}, terminal: {enabled: true}}", `sinks.json.file: "-" must be a file`},
		"no file":       {on + "sinks: {json: {enabled: true, file: ''}}", "sinks.json.file"},
		"bad embedded":  {on + "sinks: {nats: {embedded: {listen: here}}}", "sinks.nats.embedded.listen"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, errs := checkedConfig(t, c.text); code != exitUsage || !strings.Contains(errs, c.want) {
				t.Errorf("exit %d, %q in it? %s", code, c.want, errs)
			}
		})
	}
}

func TestCheckNamesTheFileThatIsNotThere(t *testing.T) {
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"check", "-c", "nowhere.yml"}, &out, &errs); code != exitUsage || !strings.Contains(errs.String(), "nowhere.yml") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func TestFaultsOfAFileAreOneError(t *testing.T) {
	var cfg serveConfig
	err := config.Read("f", []byte("a: 1\nb: 2"), &cfg).Err()
	var faults *config.Error
	if !errors.As(err, &faults) || len(faults.Faults) != 2 {
		t.Errorf("%v", err)
	}
}
