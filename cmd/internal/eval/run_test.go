package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/filesrc"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func judge(t *testing.T) pipeline.Judge {
	t.Helper()
	lib, err := tactics.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return func(*source.Call) (detectors.Detector, *risk.Meter) {
		return dialogue.New(lib.Set, dialogue.Config{}), risk.NewMeter(risk.DefaultConfig())
	}
}

func textConfig(t *testing.T) Config {
	t.Helper()
	return Config{Mode: Text, AlertLevel: risk.Warning, Parallel: 1, Judge: judge(t)}
}

func manifest(t *testing.T, path string) []Item {
	t.Helper()
	items, bad, err := ReadManifests([]string{path})
	if err != nil || len(bad) > 0 {
		t.Fatal(err, bad)
	}
	return items
}

func mustRun(t *testing.T, cfg Config, items []Item) Results {
	t.Helper()
	r, err := Run(t.Context(), cfg, items, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rowOf(t *testing.T, r Results, id string) Row {
	t.Helper()
	i := slices.IndexFunc(r.Items, func(row Row) bool { return row.ID == id })
	if i < 0 {
		t.Fatalf("no result of %s", id)
	}
	return r.Items[i]
}

func TestWrittenCallsAreScored(t *testing.T) {
	r := mustRun(t, textConfig(t), manifest(t, "testdata/calls.jsonl"))
	s := r.Summary
	if s.Calls != 8 || s.Scam != 3 || s.ScamHook != 1 || s.Benign != 2 || s.Unclear != 1 || s.Failed != 0 {
		t.Errorf("calls %d: %d scam, %d hook, %d benign, %d unclear, %d failed", s.Calls, s.Scam, s.ScamHook, s.Benign, s.Unclear, s.Failed)
	}
	if s.TrueAlerts != 2 || s.Missed != 1 || s.FalseAlarms != 1 {
		t.Errorf("%d alerts, %d missed, %d false; want 2, 1, 1", s.TrueAlerts, s.Missed, s.FalseAlarms)
	}
	for name, f := range map[string]struct {
		got  *float64
		want float64
	}{
		"recall": {s.Recall, 0.6667}, "precision": {s.Precision, 0.6667}, "false per 100": {s.FalsePer100, 50},
		"openings": {s.HookRecall, 1}, "otp_request recall": {s.PerTactic["otp_request"].Recall, 1},
		"otp_request precision": {s.PerTactic["otp_request"].Precision, 0.5},
	} {
		if f.got == nil || *f.got != f.want {
			t.Errorf("%s is %v, want %v", name, orNone(f.got, -1), f.want)
		}
	}
	if s.FalsePerHour != nil || s.WER.Rate != nil || s.Digits.Rate != nil {
		t.Error("text has hours, a word error rate or digits")
	}

	code := rowOf(t, r, "fraud-code")
	if code.Level != "critical" || !slices.Contains(code.Tactics, "otp_request") || code.BeforeCompliance == nil || !*code.BeforeCompliance {
		t.Errorf("fraud-code: %s, %v, before compliance %v", code.Level, code.Tactics, code.BeforeCompliance)
	}
	if code.AlertAtTurn == nil || *code.AlertAtTurn != 2 {
		t.Errorf("fraud-code: alert in turn %v, want 2", code.AlertAtTurn)
	}
	if code.DelayS == nil || *code.DelayS <= 0 || *code.DelayS > 10 {
		t.Errorf("fraud-code: alert %v s after the ask began", orNone(code.DelayS, -1))
	}
	quiet := rowOf(t, r, "fraud-too-quiet")
	if quiet.AlertAtS != nil || quiet.DelayS != nil || quiet.BeforeCompliance != nil {
		t.Errorf("fraud-too-quiet: alert at %v", orNone(quiet.AlertAtS, -1))
	}
}

func TestSameItemsGiveSameResults(t *testing.T) {
	items := manifest(t, "testdata/calls.jsonl")
	var first []byte
	for _, parallel := range []int{1, 4} {
		cfg := textConfig(t)
		cfg.Parallel = parallel
		var ids []string
		cfg.Row = func(r Row) { ids = append(ids, r.ID) }
		r := mustRun(t, cfg, items)
		if len(ids) != len(items) || !slices.EqualFunc(ids, items, func(id string, it Item) bool { return id == it.ID }) {
			t.Errorf("%d at once: rows told in order %v", parallel, ids)
		}
		r.Summary.WallS, r.Summary.CPUS = 0, 0
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(first, b) {
			t.Errorf("%d at once gives other results than 1", parallel)
		}
	}
}

func TestNoDigitsLeaveUnlessAsked(t *testing.T) {
	items := manifest(t, "testdata/calls.jsonl")
	words := func(unmasked bool) string {
		cfg := textConfig(t)
		cfg.Unmasked = unmasked
		b, err := json.Marshal(mustRun(t, cfg, items).Items)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := words(false); strings.Contains(got, "four one nine") {
		t.Error("the code is in the results")
	}
	if got := words(true); !strings.Contains(got, "four one nine") {
		t.Error("the code is not in the results, though asked for")
	}
}

func TestInterruptedRunKeepsWhatIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := textConfig(t)
	n := 0
	cfg.Done = func(Row) {
		if n++; n == 3 {
			cancel()
		}
	}
	items := manifest(t, "testdata/calls.jsonl")
	r, err := Run(ctx, cfg, items, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Partial || len(r.Items) < 3 || len(r.Items) == len(items) || r.Summary.Calls != len(r.Items) || r.Summary.Failed != 0 {
		t.Errorf("partial %v, %d of %d items, %d failed", r.Partial, len(r.Items), len(items), r.Summary.Failed)
	}
}

// recordings writes a stereo file of 20 s, a mono one, and something else, and
// returns the config that hears them: the words come from a transcript.
func recordings(t *testing.T, transcript string) (dir string, cfg Config) {
	t.Helper()
	dir = t.TempDir()
	silent := make([]int16, 20*8000)
	for name, channels := range map[string][][]int16{"stereo.wav": {silent, silent}, "mono.wav": {silent}} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := audio.WriteWAV(f, audio.WAVPCM16, 8000, channels...); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "text.wav"), []byte("no sound"), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := script.Parse(strings.NewReader(transcript))
	if err != nil {
		t.Fatal(err)
	}
	cfg = textConfig(t)
	cfg.Mode = Audio
	cfg.Listen = listen.DefaultConfig()
	cfg.Engine = script.New(func(string) (script.Transcript, error) { return said, nil })
	cfg.Open = func(_, path string, callerRight bool) (*filesrc.Recording, error) {
		return filesrc.OpenAudio(path, callerRight)
	}
	return dir, cfg
}

func itemsIn(t *testing.T, dir string, lines ...string) []Item {
	t.Helper()
	path := filepath.Join(dir, "m.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return manifest(t, path)
}

func TestRecordingsAreHeardAndTheirWordsCounted(t *testing.T) {
	dir, cfg := recordings(t, "1 4 caller final please read me the code we sent\n5 8 callee final four nine to two seven one")
	r := mustRun(t, cfg, itemsIn(t, dir,
		`{"id":"stereo","audio":"stereo.wav","channels":["caller","callee"],"label":"scam","first_actionable_turn":0,"turns":[{"role":"caller","text":"Please read me the code we sent you.","start":1,"end":4},{"role":"callee","text":"4 9 2 2 7 1","start":5,"end":8,"tactics":["otp_readback"]}]}`,
		`{"id":"machine","audio":"mono.wav","text":"something else","human_reference":false}`,
		`{"id":"mono","audio":"mono.wav","text":"four nine","digits":"492271"}`,
		`{"id":"text","text":"no recording"}`,
	))
	s := r.Summary
	if s.Calls != 3 || s.Skipped != 1 || s.Failed != 0 {
		t.Fatalf("%d calls, %d skipped, %d failed", s.Calls, s.Skipped, s.Failed)
	}
	stereo := rowOf(t, r, "stereo")
	if stereo.WER == nil || stereo.WER.Words != 14 || stereo.WER.Errors != 2 { // "you" missing, "two" heard as "to"
		t.Errorf("stereo: word errors %+v, want 2 of 14", stereo.WER)
	}
	if stereo.AlertAtS == nil || stereo.BeforeCompliance == nil || stereo.DurationS != 20 {
		t.Errorf("stereo: %+v", stereo)
	}
	if rowOf(t, r, "machine").WER != nil {
		t.Error("a machine's reference is scored")
	}
	if code := rowOf(t, r, "mono").Code; code == nil || code.Spoken != 6 || code.Heard != 6 || code.Errors != 0 {
		t.Errorf("code %+v, want 6 digits, all right", code)
	}
	if s.Digits.Codes != 1 || s.Digits.Detected != 1 || s.Digits.Right != 1 {
		t.Errorf("digits %+v", s.Digits)
	}
}

func TestCallerMayBeOnTheRight(t *testing.T) {
	dir, cfg := recordings(t, "1 2 caller final hello")
	right := map[string]bool{}
	open := cfg.Open
	cfg.Open = func(call, path string, callerRight bool) (*filesrc.Recording, error) {
		right[call] = callerRight
		return open(call, path, callerRight)
	}
	mustRun(t, cfg, itemsIn(t, dir,
		`{"id":"left","audio":"stereo.wav","channels":["caller","agent"]}`,
		`{"id":"right","audio":"stereo.wav","channels":["agent","caller"]}`,
		`{"id":"neither","audio":"stereo.wav","channels":2}`,
	))
	if right["left"] || !right["right"] || right["neither"] {
		t.Errorf("caller on the right: %v", right)
	}
}

func TestRecordingsThatCannotBeHeardFailByLine(t *testing.T) {
	dir, cfg := recordings(t, "1 2 caller final hello")
	r := mustRun(t, cfg, itemsIn(t, dir,
		`{"id":"good","audio":"stereo.wav","label":"benign"}`,
		`{"id":"missing","audio":"nowhere-at-all.wav","label":"scam"}`,
		`{"id":"no-sound","audio":"text.wav","label":"benign"}`,
		`{"id":"channels","audio":"mono.wav","channels":["caller","callee"],"label":"scam"}`,
	))
	if s := r.Summary; s.Calls != 4 || s.Failed != 3 || s.Benign != 1 || s.Scam != 0 {
		t.Errorf("%d calls, %d failed, %d benign and %d scam scored", s.Calls, s.Failed, s.Benign, s.Scam)
	}
	for id, want := range map[string]string{
		"missing": "m.jsonl:2: audio: nowhere-at-all.wav is neither", "no-sound": "m.jsonl:3: ", "channels": "m.jsonl:4: channels: 2 roles",
	} {
		if got := rowOf(t, r, id).Error; !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", id, got, want)
		}
	}
}

func TestEngineThatHearsNothingFailsTheItem(t *testing.T) {
	dir, cfg := recordings(t, "1 2 caller final hello")
	cfg.Engine = script.New(func(string) (script.Transcript, error) { return script.Transcript{}, errors.New("no words") })
	r := mustRun(t, cfg, itemsIn(t, dir, `{"id":"a","audio":"mono.wav","label":"benign"}`))
	if row := rowOf(t, r, "a"); !strings.HasPrefix(row.Error, "deaf: ") || r.Summary.Failed != 1 {
		t.Errorf("error %q, %d failed", row.Error, r.Summary.Failed)
	}
}

func TestCPUTimeOnlyGrows(t *testing.T) {
	began := cpuTime()
	for deadline := time.Now().Add(20 * time.Millisecond); time.Now().Before(deadline); {
	}
	if used := cpuTime() - began; used <= 0 || used > time.Minute {
		t.Errorf("20 ms of work took %v of CPU", used)
	}
}
