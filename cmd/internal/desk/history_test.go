package desk

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// found are the ids that a search gives, the latest first.
func (s *site) found(query string) []string {
	s.t.Helper()
	var got struct {
		Calls []board.Row
		Next  string
	}
	s.want(http.StatusOK, "GET", "/api/history?"+query, "", &got)
	ids := []string{}
	for _, row := range got.Calls {
		ids = append(ids, row.ID)
	}
	return ids
}

func TestHistoryFindsWhatIsAskedFor(t *testing.T) {
	s := startSite(t, nil)
	var calls []*call
	for i, level := range []callwardenv1.Level{callwardenv1.Level_LEVEL_NONE, notice, warning, critical} {
		c := s.call(fmt.Sprint("c", i))
		c.attrs = map[string]string{"from": fmt.Sprintf("+1 555 010 %04d", i), "to": "sip:+4930123456@bank.example", "from_name": "Ana " + strings.Repeat("x", i)}
		c.start()
		c.find("f", float64(i), level, time.Duration(i)*time.Second)
		c.say(1, fmt.Sprint("the word of the day is rutabaga ", []string{"no", "one", "two", "three"}[i]))
		c.end(time.Minute)
		c.kept()
		calls = append(calls, c)
	}
	s.want(http.StatusAccepted, "POST", "/api/calls/default/c2/actions", `{"action":"scam"}`, nil)
	eventually(t, "the verdict in the history", func() bool { return len(s.found("verdict=scam")) == 1 })
	for query, want := range map[string][]string{
		"":                        {"c3", "c2", "c1", "c0"},
		"level=warning":           {"c3", "c2"},
		"q=OTP+request":           {"c3", "c2", "c1", "c0"},
		"q=ana+xxx":               {"c3"},
		"q=nobody":                {},
		"tactic=otp_request":      {"c3", "c2", "c1", "c0"},
		"tactic=gift_cards":       {},
		"source=rtp":              {"c3", "c2", "c1", "c0"},
		"source=whip":             {},
		"tenant=other":            {},
		"number=%2B15550100002":   {"c2"},
		"number=0003":             {"c3"},
		"number=4930123456":       {"c3", "c2", "c1", "c0"},
		"number=030+123456":       {"c3", "c2", "c1", "c0"},
		"number=99999":            {},
		"verdict=scam":            {"c2"},
		"verdict=none":            {"c3", "c1", "c0"},
		"verdict=not_scam":        {},
		"q=rutabaga":              {},
		"q=rutabaga&spoken=1":     {"c3", "c2", "c1", "c0"},
		"q=rutabaga+two&spoken=1": {"c2"},
		"to=1":                    {},
		"from=1":                  {"c3", "c2", "c1", "c0"},
		"limit=2":                 {"c3", "c2"},
	} {
		if got := s.found(query); !slices.Equal(got, want) {
			t.Errorf("%q finds %v, want %v", query, got, want)
		}
	}
	for _, query := range []string{"level=high", "verdict=maybe", "number=1", "from=x", "limit=-1", "cursor=%21"} {
		s.want(http.StatusBadRequest, "GET", "/api/history?"+query, "", nil)
	}
	_ = calls
}

func TestHistoryIsReadPageByPage(t *testing.T) {
	s := startSite(t, nil)
	for i := range 7 {
		c := s.call(fmt.Sprint("c", i))
		c.start()
		c.end(time.Second)
	}
	s.call("c6").kept()
	var all []string
	cursor := ""
	for pages := 0; ; pages++ {
		var got struct {
			Calls []board.Row
			Next  string
		}
		s.want(http.StatusOK, "GET", "/api/history?limit=3&cursor="+url.QueryEscape(cursor), "", &got)
		for _, row := range got.Calls {
			all = append(all, row.ID)
		}
		if cursor = got.Next; cursor == "" {
			break
		}
		if pages > 5 {
			t.Fatal("there is no end")
		}
	}
	if want := []string{"c6", "c5", "c4", "c3", "c2", "c1", "c0"}; !slices.Equal(all, want) {
		t.Errorf("pages have %v", all)
	}
}

func TestMaskedNumberIsFoundByItsIDOnly(t *testing.T) {
	d := &Desk{numberKey: []byte("0123456789abcdef")}
	row := &board.Row{From: "+## ## #### ####", FromID: pipeline.NumberID(d.numberKey, "+442079460002"), To: "+## ####55"}
	for text, want := range map[string]bool{"+442079460002": true, "020 7946 0002": true, "+442079460003": false, "555": false, "0055": false} {
		n, err := d.parseNumber(text)
		if got := err == nil && n.isParty(row); got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestCallStaysInTheHistoryWithEverythingButItsAudio(t *testing.T) {
	s := startSite(t, func(c *Config) { c.Keep = time.Millisecond })
	c := s.call("c1")
	c.start()
	for i := range 700 {
		c.say(i, "word")
	}
	c.find("f", 7, warning, 700*time.Second)
	c.end(701 * time.Second)
	c.kept()
	eventually(t, "the call to leave the board", func() bool { return s.desk.board.Row(board.Key{Tenant: "default", Call: "c1"}) == nil })
	var whole struct {
		board.Call
		History bool
	}
	s.want(http.StatusOK, "GET", "/api/calls/default/c1", "", &whole)
	if !whole.History || len(whole.Segments) != segmentsPage || whole.Earlier != 200 || len(whole.Findings) != 1 || whole.End == nil {
		t.Errorf("history %v, %d segments, %d earlier, %d findings", whole.History, len(whole.Segments), whole.Earlier, len(whole.Findings))
	}
	var page struct {
		Segments []board.Segment
		Earlier  int
	}
	s.want(http.StatusOK, "GET", fmt.Sprintf("/api/calls/default/c1/segments?before=%d&limit=150", whole.Segments[0].N), "", &page)
	if len(page.Segments) != 150 || page.Earlier != 50 || page.Segments[149].N != whole.Segments[0].N-1 {
		t.Errorf("page of %d segments, %d earlier", len(page.Segments), page.Earlier)
	}
	s.want(http.StatusNotFound, "GET", "/api/calls/default/c1/live", "", nil)
	// What people do now is in the history, too.
	s.want(http.StatusAccepted, "POST", "/api/calls/default/c1/actions", `{"action":"not_scam"}`, nil)
	eventually(t, "the verdict", func() bool { return len(s.found("verdict=not_scam")) == 1 })
	var text string
	s.want(http.StatusOK, "GET", "/api/calls/default/c1/export.txt", "", &text)
	if !strings.Contains(text, `otp_request: "read me the code"`) || !strings.Contains(text, "not scam") || strings.Count(text, "caller: word") != 700 {
		t.Errorf("evidence is %s", text)
	}
}

func TestHistoryIsNotPoorerForBeingReadAgain(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, func(c *Config) { c.Dir = dir })
	c := s.call("c1")
	c.start()
	c.say(1, "not kept by the stream")
	c.end(time.Second)
	c.kept()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.begin(func(c *Config) { c.Dir = dir }) // reads the stream again, which has no words
	c.over()
	eventually(t, "what was read again to be written", func() bool {
		s.desk.mu.Lock()
		defer s.desk.mu.Unlock()
		return len(s.desk.dirty) == 0
	})
	var text string
	s.want(http.StatusOK, "GET", "/api/history?q=kept&spoken=1", "", &text)
	if strings.Count(text, `"id":"c1"`) != 1 {
		t.Errorf("the history has %s", text)
	}
}

func TestDeletedCallDoesNotComeBack(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, func(c *Config) { c.Dir = dir })
	for _, id := range []string{"c1", "c2"} {
		c := s.call(id)
		c.start()
		c.find("f", 7, warning, time.Second)
		c.end(2 * time.Second)
		c.kept()
	}
	live := s.call("live")
	live.start()
	live.seen()
	s.want(http.StatusConflict, "DELETE", "/api/history/calls/default/live", "", nil)
	var did struct{ Deleted, Events int }
	s.want(http.StatusOK, "DELETE", "/api/history/calls/default/c1", "", &did)
	if did.Deleted != 1 || did.Events != 3 {
		t.Errorf("deleted %+v, want the call and its three events", did)
	}
	s.want(http.StatusNotFound, "GET", "/api/calls/default/c1", "", nil)
	s.want(http.StatusNotFound, "DELETE", "/api/history/calls/default/c1", "", nil)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.begin(func(c *Config) { c.Dir = dir })
	s.call("c2").seen()
	if got := s.found(""); !slices.Equal(got, []string{"c2"}) {
		t.Errorf("the history has %v", got)
	}
}

func TestCallsOfANumberAreDeleted(t *testing.T) {
	s := startSite(t, nil)
	for i, number := range []string{"+1 555 010 4711", "0049301234567", "+1 555 010 4711"} {
		c := s.call(fmt.Sprint("c", i))
		c.attrs = map[string]string{"from": number}
		c.start()
		c.end(time.Second)
		c.kept()
	}
	var did struct{ Calls, Deleted int }
	s.want(http.StatusOK, "POST", "/api/history/delete", `{"number":"+15550104711","dry":true}`, &did)
	if did.Calls != 2 || did.Deleted != 0 || len(s.found("")) != 3 {
		t.Errorf("without doing it: %+v", did)
	}
	s.want(http.StatusBadRequest, "POST", "/api/history/delete", `{"number":"4711"}`, nil)
	s.want(http.StatusOK, "POST", "/api/history/delete", `{"number":"+15550104711"}`, &did)
	if got := s.found(""); did.Deleted != 2 || !slices.Equal(got, []string{"c1"}) {
		t.Errorf("deleted %+v, left %v", did, got)
	}
}

func TestOldCallsLeaveTheHistory(t *testing.T) {
	now := time.Now()
	st, err := openStore(t.TempDir(), quiet(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	defer st.close()
	var calls []board.Call
	for i := range 5 {
		calls = append(calls, board.Call{Row: &board.Row{Tenant: "t", ID: fmt.Sprint("c", i), Ended: board.Millis(now.AddDate(0, 0, -i).UnixMilli())}})
	}
	if err := st.put(calls); err != nil {
		t.Fatal(err)
	}
	if n, err := st.prune(now.AddDate(0, 0, -2)); n != 2 || err != nil {
		t.Errorf("pruned %d, %v; want the two that are older", n, err)
	}
	if _, ok, err := st.get(board.Key{Tenant: "t", Call: "c4"}); ok || err != nil {
		t.Errorf("c4 is there: %v, %v", ok, err)
	}
	if _, ok, err := st.get(board.Key{Tenant: "t", Call: "c1"}); !ok || err != nil {
		t.Errorf("c1 is there: %v, %v", ok, err)
	}
}

func TestDamagedHistoryIsToldAndSetAside(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"no database": func([]byte) []byte { return []byte("this is no database") },
		"empty pages": func(b []byte) []byte { clear(b[8192:]); return b },
		"cut short":   func(b []byte) []byte { return b[:len(b)/2] },
		"noise": func(b []byte) []byte {
			for i := 8192; i < len(b); i += 7 {
				b[i] ^= 0x5a
			}
			return b
		},
		"meta pages": func(b []byte) []byte { clear(b[:8192]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := startSite(t, func(c *Config) { c.Dir = dir })
			for i := range 30 {
				c := s.call(fmt.Sprint("c", i))
				c.start()
				c.say(1, strings.Repeat("many words of little meaning ", 100))
				c.end(time.Second)
			}
			s.call("c29").kept()
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, historyFile)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			s.begin(func(c *Config) { c.Dir = dir })
			var who me
			s.want(http.StatusOK, "GET", "/api/me", "", &who)
			if len(who.Notices) != 1 || !strings.Contains(who.Notices[0], "damaged") {
				t.Errorf("notices are %q", who.Notices)
			}
			if aside, err := filepath.Glob(file + ".damaged-*"); err != nil || len(aside) != 1 {
				t.Errorf("set aside is %v, %v", aside, err)
			}
			c := s.call("new")
			c.start()
			c.end(time.Second)
			c.kept() // the service goes on
		})
	}
}

func TestHistoryThatIsDamagedWhileItRunsIsSetAside(t *testing.T) {
	s := startSite(t, nil)
	err := s.desk.store.use(func(*bbolt.DB) error { panic("page 7: invalid page type") })
	if err == nil {
		t.Fatal("damage is no error")
	}
	c := s.call("new")
	c.start()
	c.end(time.Second)
	c.kept()
	if n := s.desk.store.notes(); len(n) != 1 {
		t.Errorf("notices are %q", n)
	}
}

func TestHistoryOfAnotherProcessIsNotTaken(t *testing.T) {
	s := startSite(t, nil)
	_, err := openStore(s.desk.cfg.Dir, quiet(), time.Now)
	if err == nil || !strings.Contains(err.Error(), "used by another process") {
		t.Errorf("opening it again: %v", err)
	}
}

func TestDayPageCountsWhatPeopleJudged(t *testing.T) {
	s := startSite(t, nil)
	verdict := map[string]string{"c0": "scam", "c1": "scam", "c2": "not_scam", "c3": ""}
	for i, level := range []callwardenv1.Level{critical, warning, warning, notice} {
		c := s.call(fmt.Sprint("c", i))
		c.start()
		c.find("f", 3, level, time.Duration(4+i*10)*time.Second)
		if v := verdict[c.id]; v != "" {
			action, _ := board.ActionOf(v)
			c.publish(sink.CallAction, 0, &callwardenv1.CallAction{Context: c.about(), Who: "anna", Action: action, When: timestamppb.Now()})
		}
		c.end(time.Minute)
		c.kept()
	}
	var p page
	day := time.Now().UTC().Format(time.DateOnly)
	s.want(http.StatusOK, "GET", "/api/history/day/"+day+"?tz=UTC", "", &p)
	if p.Calls != 4 || p.Alerts != 3 || p.ByLevel["critical"] != 1 || p.ByLevel["warning"] != 2 || p.ByLevel["none"] != 0 {
		t.Errorf("page is %+v", p)
	}
	if v := p.Precision["warning"]; v.Scam != 2 || v.NotScam != 1 || v.Precision == nil || *v.Precision != 0.667 {
		t.Errorf("precision of warnings is %+v", v)
	}
	if v := p.Precision["critical"]; v.Precision == nil || *v.Precision != 1 {
		t.Errorf("precision of criticals is %+v", v)
	}
	if v := p.Verdicts["notice"]; v.Open != 1 || v.Precision != nil {
		t.Errorf("verdicts of notices are %+v", v)
	}
	if a := p.TimeToAlert; a.P50 == nil || *a.P50 != 14 || *a.P90 != 24 || a.Buckets[0].N != 1 {
		t.Errorf("time to alert is %+v", a)
	}
	if len(p.ByTactic) != 1 || p.ByTactic[0].Calls != 4 || p.ByTactic[0].Scam != 2 {
		t.Errorf("tactics are %+v", p.ByTactic)
	}
	var days struct{ Days []dayLine }
	s.want(http.StatusOK, "GET", "/api/history/days?tz=UTC", "", &days)
	if len(days.Days) != 1 || days.Days[0] != (dayLine{day, 4, 3, 1}) {
		t.Errorf("days are %+v", days)
	}
	s.want(http.StatusBadRequest, "GET", "/api/history/day/yesterday", "", nil)
	s.want(http.StatusBadRequest, "GET", "/api/history/days?tz=Nowhere/At_All", "", nil)
}

func TestExportsAreWhatWasFound(t *testing.T) {
	s := startSite(t, nil)
	for i := range 3 {
		c := s.call(fmt.Sprint("c", i))
		c.attrs = map[string]string{"from_name": `=HYPERLINK("http://evil.example")`, "to_name": "a, \"b\"\nc"}
		c.start()
		c.find("f", 7, warning, time.Second)
		c.end(2 * time.Second)
		c.kept()
	}
	var calls []board.Call
	s.want(http.StatusOK, "GET", "/api/history/export.json?level=warning", "", &calls)
	if len(calls) != 3 || calls[0].Row.ID != "c2" || len(calls[0].Findings) != 1 {
		t.Errorf("exported %d calls", len(calls))
	}
	s.want(http.StatusOK, "GET", "/api/history/export.json?level=critical", "", &calls)
	if len(calls) != 0 {
		t.Errorf("exported %d calls of none", len(calls))
	}
	var text string
	s.want(http.StatusOK, "GET", "/api/history/export.csv", "", &text)
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(lines) != 4 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if name := lines[1][slices.Index(columns, "from_name")]; name != `'=HYPERLINK("http://evil.example")` {
		t.Errorf("a spreadsheet would run %q", name)
	}
	if name := lines[1][slices.Index(columns, "to_name")]; name != "a, \"b\"\nc" {
		t.Errorf("name became %q", name)
	}
}

func TestDeskWithoutAFolderHasNoHistory(t *testing.T) {
	s := startSite(t, func(c *Config) { c.Dir = "" })
	c := s.call("c1")
	c.start()
	c.end(time.Second)
	c.over()
	var who me
	s.want(http.StatusOK, "GET", "/api/me", "", &who)
	if who.History {
		t.Error("it says that it has one")
	}
	s.want(http.StatusNotFound, "GET", "/api/history", "", nil)
	s.want(http.StatusNotFound, "GET", "/api/audit", "", nil)
	s.want(http.StatusOK, "GET", "/api/calls/default/c1", "", nil)
}

func TestTenThousandSegmentsAreShown(t *testing.T) {
	s := startSite(t, nil)
	c := s.call("c1")
	c.start()
	const all = 10_000
	for i := range all {
		c.say(i, "word")
	}
	key := board.Key{Tenant: "default", Call: "c1"}
	eventually(t, "all segments", func() bool {
		whole, _ := s.desk.board.Call(key)
		return len(whole.Segments)+whole.Earlier == all
	})
	stream := s.stream("/api/calls/default/c1/live")
	first := stream.next("snapshot")
	var whole board.Call
	if err := json.Unmarshal(first.data, &whole); err != nil || len(whole.Segments) != segmentsPage || whole.Earlier != all-segmentsPage {
		t.Fatalf("%d segments, %d earlier, %v", len(whole.Segments), whole.Earlier, err)
	}
	c.say(all-1, "word") // comes again and changes nothing, or its end
	c.find("f", 7, warning, time.Second)
	for {
		ev := stream.next("update")
		if len(ev.data) > 20_000 {
			t.Fatalf("an update of %d bytes", len(ev.data))
		}
		if strings.Contains(string(ev.data), `"findings"`) {
			break
		}
	}
}
