package live

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/cmd/internal/caller"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The connections to a callwarden that has ended go with its last answer.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func TestEachWayIsMeasured(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "callwarden")
	if out, err := exec.Command("go", "build", "-o", binary, "../../callwarden").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pcm := make([]int16, 8000)
	rec := &caller.Recording{Path: "quiet", RateHz: 8000, Legs: []caller.Side{{Leg: audio.Caller, PCM: pcm}, {Leg: audio.Callee, PCM: pcm}}}
	for _, way := range []string{caller.SIPREC, caller.RTP} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			r, err := Run(t.Context(), Config{
				Binary: binary, Way: way, Calls: []int{3}, Rate: 50, Recordings: []*caller.Recording{rec}, Codec: "PCMU", Transport: "udp",
				Backend: "none", Listen: "full", Turnover: way == caller.RTP, Measure: time.Second, Warm: time.Second / 2, Limit: 10 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			s := r.Steps[0]
			if !s.Held || s.PacketsASec < 150 || s.Setup == nil || s.MemoryMB <= 0 || s.MemoryBeforeMB <= 0 {
				t.Errorf("step %+v", s)
			}
		})
	}
}

func TestConfigNamesFlagValueAndRule(t *testing.T) {
	good := Config{Way: caller.SIPREC, Calls: []int{1}, Rate: 1, Measure: time.Second, Limit: time.Second}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"--calls: name a number": func(c *Config) { c.Calls = nil },
		"--calls: 0 must be":     func(c *Config) { c.Calls = []int{5, 0} },
		`--way: "fax" must be`:   func(c *Config) { c.Way = "fax" },
		"--rate: 0 must be":      func(c *Config) { c.Rate = 0 },
		"--warm: -1s must not":   func(c *Config) { c.Warm = -time.Second },
		"--measure: 0s must be":  func(c *Config) { c.Measure = 0 },
		"--limit: 0s must be":    func(c *Config) { c.Limit = 0 },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestMetricsAreSummedByLabel(t *testing.T) {
	m := metrics("# HELP a_total x\na_total{source=\"rtp\",why=\"busy\"} 2\na_total{source=\"siprec\",why=\"busy\"} 3e1\na_total{why=\"late\"} 5\na_totals 7\nb 1\n")
	for _, c := range []struct {
		name   string
		having []string
		want   float64
	}{{"a_total", nil, 37}, {"a_total", []string{`why="busy"`}, 32}, {"a_total", []string{`why="busy"`, `source="rtp"`}, 2}, {"b", nil, 1}, {"c", nil, 0}} {
		if got := m.sum(c.name, c.having...); got != c.want {
			t.Errorf("%s %v: %v, want %v", c.name, c.having, got, c.want)
		}
	}
}
