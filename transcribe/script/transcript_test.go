package script

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

var parseTable = []struct {
	name string
	in   string
	want []Line
	err  string // part of the error
}{
	{"nothing", "", nil, ""},
	{"comments and empty lines", "# one\n\n  \n\t# two\n", nil, ""},
	{"timed", "0.0 2.1 caller final please read me  the code", []Line{{audio.Caller, 0, 2100 * time.Millisecond, false, "please read me the code"}}, ""},
	{"carriage returns", "0 1 callee final yes\r\n1 2 callee final no\r\n", []Line{{audio.Callee, 0, time.Second, false, "yes"}, {audio.Callee, time.Second, 2 * time.Second, false, "no"}}, ""},
	{"byte order mark", "\ufeffcaller: yes", []Line{{audio.Caller, 0, perWord, false, "yes"}}, ""},
	{"partial", "0 1 unknown partial o t\n0 2 unknown final o t p", []Line{{audio.Unknown, 0, time.Second, true, "o t"}, {audio.Unknown, 0, 2 * time.Second, false, "o t p"}}, ""},
	{"untimed after timed", "1 5 caller final hi\nCallee : what's  that: a code?", []Line{{audio.Caller, time.Second, 5 * time.Second, false, "hi"}, {audio.Callee, 5 * time.Second, 5*time.Second + 4*perWord, false, "what's that: a code?"}}, ""},
	{"no text", "1 2 caller final", []Line{{audio.Caller, time.Second, 2 * time.Second, false, ""}}, ""},
	{"legs overlap", "0 5 caller final a\n1 2 callee final b", []Line{{audio.Caller, 0, 5 * time.Second, false, "a"}, {audio.Callee, time.Second, 2 * time.Second, false, "b"}}, ""},

	{"no leg", "hello there", nil, "line 1: begins with neither"},
	{"no leg but a colon", ": hello", nil, "line 1: begins with neither"},
	{"role that is no leg", "# c\nagent: hello", nil, "line 2: begins with neither"},
	{"too short", "0 1 caller", nil, "line 1: wants START END"},
	{"wrong leg", "0 1 agent final x", nil, `line 1: leg "agent"`},
	{"wrong state", "0 1 caller finally x", nil, `line 1: "finally" is neither`},
	{"wrong end", "0 x caller final x", nil, `line 1: "x" is no time`},
	{"backwards", "2 1 caller final x", nil, "line 1: from 2s to 1s"},
	{"negative", "-1 1 caller final x", nil, "line 1: time -1 s"},
	{"not a number", "NaN 1 caller final x", nil, "line 1: time NaN s"},
	{"infinite", "0 Inf caller final x", nil, "line 1: time Inf s"},
	{"too late", "0 1e9 caller final x", nil, "line 1: time 1e9 s"},
	{"overlap in a leg", "0 2 caller final x\n\n1 3 caller final y", nil, "line 3: caller begins at 1s, inside"},
	{"partial after its final", "0 3 caller partial x\n0 2 caller final x", nil, "line 2: caller ends at 2s, before its partial"},
	{"partial without final", "0 3 caller partial x\n0 3 callee final x", nil, "the last partial line of caller"},
	{"not text", "caller: \xff", nil, "line 1: not UTF-8"},
	{"NUL", "caller: x\x00", nil, "line 1: not UTF-8"},
	{"long line", "caller: x\ncaller: " + strings.Repeat("x", maxLine), nil, "line 2: longer than"},
}

func TestParseReadsLinesAndNamesTheWrongOne(t *testing.T) {
	for _, tt := range parseTable {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(strings.NewReader(tt.in))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil || !slices.Equal(got.Lines, tt.want) {
				t.Fatalf("got %+v and %v, want %+v", got.Lines, err, tt.want)
			}
		})
	}
}

func TestWordsAreWhatARecogniserWouldWrite(t *testing.T) {
	for in, want := range map[string]string{
		"Hello, this is Bob.":          "hello this is bob",
		"I’ve got 'em — agents' cards": "i've got 'em agents' cards",
		"'quoted' ' '":                 "quoted",
		"twenty-one - no":              "twenty-one no",
		"$2,000.50 (two,three)":        "2000 50 two three",
		"anydesk.com/now":              "anydesk com now",
		"ÉTÉ naïve 你好":                 "été naïve 你好",
		"...":                          "",
	} {
		if got := strings.Join(Words(in), " "); got != want {
			t.Errorf("Words(%q) = %q, want %q", in, got, want)
		}
	}
}

// Whatever Parse accepts keeps the rules of Transcript, and Format writes it
// so that Parse reads the same.
func FuzzParse(f *testing.F) {
	for _, tt := range parseTable {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		first, err := Parse(strings.NewReader(in))
		if err != nil {
			return
		}
		ends := map[audio.Leg]time.Duration{}
		for _, l := range first.Lines {
			if l.Start < ends[l.Leg] || l.End < l.Start || l.End > maxTime {
				t.Fatalf("%+v after %v", l, ends[l.Leg])
			}
			if !l.Partial {
				ends[l.Leg] = l.End
			}
		}
		var b strings.Builder
		if err := Format(&b, first); err != nil {
			t.Fatal(err)
		}
		second, err := Parse(strings.NewReader(b.String()))
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v was written as\n%sand read as %+v, %v", first, b.String(), second, err)
		}
	})
}
