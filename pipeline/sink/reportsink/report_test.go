package reportsink

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func rendered(t testing.TB, r Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := Render(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parsed(t testing.TB, page string) *html.Node {
	t.Helper()
	n, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func hasClass(n *html.Node, class string) bool {
	return slices.Contains(strings.Fields(attr(n, "class")), class)
}

// text is what a node says, without its superscript numbers and tips.
func text(n *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
		if n.Data == "sup" || hasClass(n, "tip") {
			return
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(n)
	return strings.Join(strings.Fields(b.String()), " ")
}

// elements are those below n that match.
func elements(n *html.Node, match func(*html.Node) bool) []*html.Node {
	var out []*html.Node
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && match(d) {
			out = append(out, d)
		}
	}
	return out
}

func named(tag, class string) func(*html.Node) bool {
	return func(n *html.Node) bool { return n.Data == tag && (class == "" || hasClass(n, class)) }
}

func texts(nodes []*html.Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, text(n))
	}
	return out
}

func hostile() Report {
	const evil = `</script><img src=x onerror="alert(1)">'"<b>&{{.}}`
	s := begin(evil, map[string]string{"file": evil, evil: evil, "warning": evil, "duration": evil}, caller, callee)
	s.say(caller, 1, 3, "say </p><script>alert(2)</script> now")
	s.find(evil, evil, callwardenv1.Stage(99), "<script>alert(2)</script>", 30, func(f *callwardenv1.Finding) {
		f.Rule, f.Pack, f.MutedBy, f.Words = evil, evil, evil, evil
	})
	s.add(sink.RiskLevel, &callwardenv1.RiskLevel{
		At: at(3), Level: warning, Previous: callwardenv1.Level(77), Score: 60,
		Contributions: []*callwardenv1.Contribution{{FindingId: evil, Tactic: evil, Points: 60, Why: evil}},
		Advice:        &callwardenv1.Advice{Language: evil, Text: evil},
	})
	s.hear(4, degraded, evil, caller, callee)
	s.end(5, evil, false, caller, callee)
	return s.report()
}

func allPages(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	var lines []summary
	for _, r := range append(samples(), hostile(), Report{}) {
		pages["report "+r.Call] = rendered(t, r)
		var f facts
		for _, ev := range r.Events {
			if err := f.add(ev); err != nil {
				t.Fatal(err)
			}
		}
		lines = append(lines, summarise(r, &f))
	}
	var b bytes.Buffer
	if err := renderIndex(&b, lines, []failure{{`a<b>.wav`, `no "recording"`}}); err != nil {
		t.Fatal(err)
	}
	pages["index"] = b.String()
	return pages
}

func TestPageLoadsNothingFromOutside(t *testing.T) {
	for name, page := range allPages(t) {
		for _, n := range elements(parsed(t, page), func(*html.Node) bool { return true }) {
			if slices.Contains([]string{"link", "img", "iframe", "object", "embed", "form", "base", "audio", "video"}, n.Data) {
				t.Errorf("%s: has a <%s>", name, n.Data)
			}
			for _, a := range n.Attr {
				switch {
				case a.Key == "src" || strings.HasPrefix(a.Key, "on"):
					t.Errorf("%s: <%s %s=%q>", name, n.Data, a.Key, a.Val)
				case a.Key == "href" && !strings.HasPrefix(a.Val, "#") && name != "index":
					t.Errorf("%s: <%s href=%q>", name, n.Data, a.Val)
				case n.Data == "meta" && a.Val == "refresh":
					t.Errorf("%s: moves on by itself", name)
				}
			}
		}
		for _, s := range []string{"url(", "@import", "fetch(", "XMLHttpRequest", "import("} {
			if strings.Contains(css()+script, s) {
				t.Errorf("style or script has %q", s)
			}
		}
	}
}

func TestMarkupInEventsIsHarmless(t *testing.T) {
	page := rendered(t, hostile())
	root := parsed(t, page)
	if n := elements(root, named("script", "")); len(n) != 1 || text(n[0]) == "" {
		t.Errorf("%d script elements, want ours only", len(n))
	}
	if n := elements(root, named("style", "")); len(n) != 1 {
		t.Errorf("%d style elements, want ours only", len(n))
	}
	if !strings.Contains(page, "&lt;/script&gt;&lt;img src=x") {
		t.Error("the words are gone instead of escaped")
	}
	if strings.Contains(page, "ZgotmplZ") {
		t.Error("a value was refused by its context")
	}
}

func TestEveryLinkInThePageHasItsTarget(t *testing.T) {
	for name, page := range allPages(t) {
		root := parsed(t, page)
		ids := make(map[string]bool)
		for _, n := range elements(root, func(n *html.Node) bool { return attr(n, "id") != "" }) {
			if id := attr(n, "id"); ids[id] {
				t.Errorf("%s: id %q is there twice", name, id)
			}
			ids[attr(n, "id")] = true
		}
		for _, n := range elements(root, func(*html.Node) bool { return true }) {
			for _, key := range []string{"href", "aria-describedby", "aria-labelledby"} {
				to := strings.TrimPrefix(attr(n, key), "#")
				if to != "" && !(key == "href" && name == "index" && n.Data == "a") && !ids[to] {
					t.Errorf("%s: <%s %s=%q> leads nowhere", name, n.Data, key, to)
				}
			}
		}
	}
}

func TestSameReportGivesSameBytes(t *testing.T) {
	for i, r := range samples() {
		if rendered(t, r) != rendered(t, samples()[i]) {
			t.Errorf("call %s differs from run to run", r.Call)
		}
	}
}

func TestEveryFindingIsToldAndMarked(t *testing.T) {
	r := codeFraud()
	root := parsed(t, rendered(t, r))
	var f facts
	for _, ev := range r.Events {
		if err := f.add(ev); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.findings) != 11 {
		t.Fatalf("%d findings in the sample", len(f.findings))
	}
	rows := elements(root, func(n *html.Node) bool { return n.Data == "tr" && strings.HasPrefix(attr(n, "id"), "f") })
	flags := elements(root, named("a", "flag"))
	bands := elements(root, named("rect", "band"))
	if len(rows) != 11 || len(flags) != 11 || len(bands) != 11 {
		t.Fatalf("%d rows, %d flags, %d bands, want 11 each", len(rows), len(flags), len(bands))
	}
	for i, h := range f.inOrder() {
		told := text(rows[i])
		for _, want := range []string{tactic(h.last.GetTactic()).label, h.last.GetWords(), h.last.GetRule(), fineClock(h.last.GetStart().AsDuration())} {
			if !strings.Contains(told, want) {
				t.Errorf("finding %d: %q is not in %q", i+1, want, told)
			}
		}
	}
	for n, state := range map[int]string{4: "muted by guard “never”", 5: "withdrawn after 0.7 s", 6: "confirmed after 2.0 s", 7: "confirmed"} {
		if told := text(rows[n-1]); !strings.Contains(told, state) {
			t.Errorf("finding %d: %q does not say %q", n, told, state)
		}
	}
	want := []string{
		"this is the order security desk", "an order for a phone", "it must be done within ten minutes", "buy any gift card",
		"read me the code that is in it", "do not share this code with anyone", "do not tell your bank", "please hurry",
		"# # # then # # #", "you will receive another code",
	}
	if got := texts(elements(root, named("mark", ""))); !slices.Equal(got, want) {
		t.Errorf("marked words are\n%q, want\n%q", got, want)
	}
}

func TestWithdrawnFindingMarksNoWords(t *testing.T) {
	root := parsed(t, rendered(t, codeFraud()))
	notes := elements(root, named("p", "note"))
	if len(notes) != 1 || !strings.Contains(text(notes[0]), "go to any desk") || !strings.Contains(text(notes[0]), "withdrawn") {
		t.Errorf("notes are %q", texts(notes))
	}
	if n := elements(root, named("mark", "is-withdrawn")); len(n) != 0 {
		t.Errorf("withdrawn marks: %q", texts(n))
	}
}

func TestWordsWithoutTimesAreFoundByText(t *testing.T) {
	s := begin("no-times", nil, caller)
	s.add(sink.TranscriptSegment, &callwardenv1.TranscriptSegment{Leg: caller, Final: true, Start: at(1), End: at(4), Text: "now read me the code please"})
	s.tell(&callwardenv1.Finding{Id: "a", Tactic: "otp_request", Leg: caller, Start: at(1), End: at(4), Words: "read me the code", Points: 30, State: confirmed}, seconds(4))
	s.tell(&callwardenv1.Finding{Id: "b", Tactic: "secrecy", Leg: caller, Start: at(2), End: at(3), Words: "tell nobody", Points: 3, State: confirmed}, seconds(4))
	root := parsed(t, rendered(t, s.report()))
	if got := texts(elements(root, named("mark", ""))); !slices.Equal(got, []string{"read me the code"}) {
		t.Errorf("marked %q", got)
	}
	if got := texts(elements(root, named("p", "note"))); len(got) != 1 || !strings.Contains(got[0], "tell nobody") {
		t.Errorf("noted %q, want the finding whose words are nowhere", got)
	}
}

func TestOverlappingFindingsShareTheirWords(t *testing.T) {
	s := begin("overlap", nil, caller)
	s.say(caller, 0, 6, "please read me the code now")
	s.find("a", "otp_request", callwardenv1.Stage_STAGE_ASK, "read me the code", 30, nil)
	s.find("b", "urgency", callwardenv1.Stage_STAGE_PRESSURE, "the code now", 5, nil)
	marks := elements(parsed(t, rendered(t, s.report())), named("mark", ""))
	if got := texts(marks); !slices.Equal(got, []string{"read me", "the code", "now"}) {
		t.Fatalf("marked %q", got)
	}
	if !hasClass(marks[1], "k-code") || !hasClass(marks[2], "k-pressure") {
		t.Error("shared words do not have the colour of the weightier finding")
	}
}

func TestUnfinishedHypothesesDoNotStayInThePage(t *testing.T) {
	s := begin("growing", nil, caller)
	seg := func(utterance int32, final bool, text string) {
		s.add(sink.TranscriptSegment, &callwardenv1.TranscriptSegment{Leg: caller, Utterance: utterance, Final: final, Start: at(float64(utterance)), End: at(float64(utterance) + 0.9), Text: text})
	}
	seg(1, false, "wreck a")
	seg(1, false, "wreck a nice")
	seg(1, true, "recognise speech")
	seg(2, false, "gone")
	seg(2, true, "")
	seg(3, false, "half a")
	seg(3, false, "half a word")
	turns := elements(parsed(t, rendered(t, s.report())), named("div", "turn"))
	want := []string{"0:01 Caller recognise speech", "0:03 Caller half a word … not finished"}
	var got []string
	for _, n := range turns {
		got = append(got, text(n.FirstChild)+" "+strings.Join(texts(elements(n, func(n *html.Node) bool { return hasClass(n, "who") || n.Data == "p" })), " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("turns are %q, want %q", got, want)
	}
}

func TestMaskedDigitsStayMasked(t *testing.T) {
	page := rendered(t, codeFraud())
	masks := elements(parsed(t, page), named("span", "mask"))
	if got := texts(masks); !slices.Equal(got, []string{"#", "# # #", "# # #"}) {
		t.Errorf("masks are %q", got)
	}
	if !strings.Contains(page, "are masked as #.") {
		t.Error("the page does not say that digits are masked")
	}
	open := codeFraud()
	open.Unmasked = true
	if page := rendered(t, open); strings.Contains(page, "are masked as #.") || !strings.Contains(page, "Masking was switched off") {
		t.Error("the page claims masking that was switched off")
	}
}

func TestBannersTellWhatIsMissing(t *testing.T) {
	ended := func(reason string) Report {
		s := begin("x", map[string]string{"duration": "1m30s"}, caller)
		s.end(61, reason, reason == "end of audio", caller)
		return s.report()
	}
	notEnded := begin("x", nil, caller)
	notEnded.say(caller, 0, 5, "hello")
	for _, tt := range []struct {
		name string
		r    Report
		want []string
	}{
		{"normal end", ended("end of audio"), nil},
		{"cancelled", ended("cancelled"), []string{"Partial report. Listening was stopped before the call was over. Heard up to 1:01 of 1:30."}},
		{"error", ended("reading call.wav: disk gone"), []string{"The call broke off. Reading call.wav: disk gone. Heard up to 1:01 of 1:30."}},
		{"no end", notEnded.report(), []string{"Partial report. The end of this call was not seen. Heard up to 0:05."}},
		{"leg lost", cutOff(), []string{
			"Not everything was heard. The recogniser of one leg failed. Callee: not heard, 0.8 s lost of 15 s, vosk: recogniser failed twice.",
			"Partial report. Listening was stopped before the call was over. Heard up to 0:22 of 6:12.",
		}},
		{"deaf", unheard(), []string{"Nothing was heard. Opening a recogniser: out of memory. Caller: not heard. Callee: not heard."}},
		{"truncated file", wordless(), []string{"About the recording. The file ends in the middle of a sample: 3 bytes are left out."}},
	} {
		if got := texts(elements(parsed(t, rendered(t, tt.r)), named("p", "banner"))); !slices.Equal(got, tt.want) {
			t.Errorf("%s: banners are %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestVerdictSaysNoMoreThanWasHeard(t *testing.T) {
	for _, tt := range []struct {
		r            Report
		badge, words string
	}{
		{codeFraud(), "Critical", adviceAt[critical]},
		{cutOff(), "Warning", adviceAt[warning]},
		{honest(), "No sign", "No sign of fraud was heard. That is no proof that the call is honest."},
		{wordless(), "No sign", "No words were recognised in this call, so there is nothing to judge."},
		{unheard(), "Not heard", "This call was not heard. Nothing can be said about it."},
	} {
		root := parsed(t, rendered(t, tt.r))
		verdict := elements(root, named("section", "verdict"))[0]
		if got := texts(elements(verdict, named("span", "badge"))); !slices.Equal(got, []string{tt.badge}) {
			t.Errorf("%s: badge %q, want %q", tt.r.Call, got, tt.badge)
		}
		if got := texts(elements(verdict, named("p", "advice"))); !slices.Equal(got, []string{tt.words}) {
			t.Errorf("%s: advice %q, want %q", tt.r.Call, got, tt.words)
		}
	}
}

func TestContributionsTraceEveryPoint(t *testing.T) {
	root := parsed(t, rendered(t, codeFraud()))
	steps := elements(root, func(n *html.Node) bool { return n.Data == "details" })
	if len(steps) != 3 {
		t.Fatalf("%d changes of level, want 3", len(steps))
	}
	for _, step := range steps {
		score, err := strconv.ParseFloat(text(elements(step, named("span", "score"))[0].LastChild), 64)
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, row := range elements(step, named("tbody", ""))[0:1] {
			for _, cell := range elements(row, named("td", "n")) {
				p, err := strconv.ParseFloat(text(cell), 64)
				if err != nil {
					t.Fatal(err)
				}
				sum += p
			}
		}
		if sum != score {
			t.Errorf("contributions sum to %v, score is %v", sum, score)
		}
		for _, a := range elements(step, named("a", "")) {
			if !strings.HasPrefix(attr(a, "href"), "#w") && !strings.HasPrefix(attr(a, "href"), "#f") {
				t.Errorf("contribution leads to %q", attr(a, "href"))
			}
		}
	}
	if hasOpen := elements(steps[2].Parent, func(n *html.Node) bool {
		return n == steps[2] && slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "open" })
	}); len(hasOpen) != 1 {
		t.Error("what made the highest level is folded away")
	}
}

func TestEmptyInputMakesAPage(t *testing.T) {
	for name, r := range map[string]Report{
		"nothing":        {},
		"name only":      {Call: "x"},
		"empty messages": {Events: []sink.Event{{Data: &callwardenv1.CallStarted{}}, {Data: &callwardenv1.TranscriptSegment{}}, {Data: &callwardenv1.RiskFinding{}}, {Data: &callwardenv1.RiskLevel{}}, {Data: &callwardenv1.CallStatus{}}, {Data: &callwardenv1.CallEnded{}}}},
		"nil finding":    {Events: []sink.Event{{Data: &callwardenv1.RiskFinding{At: at(3)}}}},
		"no peaks":       {Waveforms: []Waveform{{}, {Step: time.Second}, {Peaks: []int16{1}}}},
		"negative peaks": {Waveforms: []Waveform{{Step: time.Second, Peaks: []int16{-5, -32768, 32767}}}},
	} {
		root := parsed(t, rendered(t, r))
		if n := elements(root, named("h1", "")); len(n) != 1 || text(n[0]) == "" {
			t.Errorf("%s: the page has no title", name)
		}
	}
}

func TestForeignDataIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	var b bytes.Buffer
	if err := Render(&b, Report{Events: []sink.Event{{Type: "x", Data: timestamppb.New(time.Unix(0, 0))}}}); err == nil || b.Len() != 0 {
		t.Errorf("error %v, %d bytes written", err, b.Len())
	}
}

func TestMemoryOfAnEndlessCallIsBounded(t *testing.T) {
	var f facts
	for i := range maxSegments + 10 {
		add := func(m sink.Event) {
			if err := f.add(m); err != nil {
				t.Fatal(err)
			}
		}
		add(sink.Event{Data: &callwardenv1.TranscriptSegment{Utterance: int32(i), Final: true, Text: "x"}})
		add(sink.Event{Data: &callwardenv1.RiskFinding{Finding: &callwardenv1.Finding{Id: fmt.Sprint(i)}, Score: float64(i)}})
		add(sink.Event{Data: &callwardenv1.RiskLevel{}})
		add(sink.Event{Data: &callwardenv1.CallStatus{}})
	}
	if len(f.segments) != maxSegments || len(f.findings) != maxFindings || len(f.levels) != maxLevels || len(f.statuses) != maxStatuses || len(f.scores) > maxScores {
		t.Errorf("kept %d segments, %d findings, %d levels, %d statuses, %d scores", len(f.segments), len(f.findings), len(f.levels), len(f.statuses), len(f.scores))
	}
	if f.left != (left{10, maxSegments + 10 - maxFindings}) {
		t.Errorf("left out %+v", f.left)
	}
	if got := banners(&f, 0); len(got) != 2 || got[1].Title != "This page leaves some out" {
		t.Errorf("banners are %v", got)
	}
}

func TestTimesReadAsPeopleWriteThem(t *testing.T) {
	for _, tt := range []struct {
		d                 time.Duration
		clock, fine, span string
	}{
		{0, "0:00", "0:00.0", "0.0 s"},
		{-time.Second, "0:00", "0:00.0", "0.0 s"},
		{59960 * time.Millisecond, "0:59", "1:00.0", "59 s"},
		{6449 * time.Millisecond, "0:06", "0:06.4", "6.4 s"},
		{6450 * time.Millisecond, "0:06", "0:06.5", "6.4 s"},
		{200 * time.Second, "3:20", "3:20.0", "3 min 20 s"},
		{2*time.Hour + 5*time.Minute + 7*time.Second, "2:05:07", "2:05:07.0", "2 h 5 min"},
	} {
		if clock(tt.d) != tt.clock || fineClock(tt.d) != tt.fine || span(tt.d) != tt.span {
			t.Errorf("%v: %s, %s, %s", tt.d, clock(tt.d), fineClock(tt.d), span(tt.d))
		}
	}
}

func TestEveryTacticOfOursHasWords(t *testing.T) {
	for _, name := range strings.Fields(`lure_charge lure_account lure_legal lure_refund lure_delivery press_key impersonation
		remote_access_request remote_access_compliance gift_card_request gift_card_readback otp_request otp_readback disable_mfa
		credential_request money_transfer_request overpayment secrecy urgency cross_channel official_counter_advice`) {
		if w, ok := tacticWords[name]; !ok || w.label == "" || !slices.ContainsFunc(palette, func(s shade) bool { return s.name == "k-"+w.family }) {
			t.Errorf("%s: %+v", name, w)
		}
	}
	if w := tactic("house_rule_7"); w != (tacticWord{"house rule 7", "other"}) {
		t.Errorf("unknown tactic is %+v", w)
	}
}

// BenchmarkRenderLong renders three hours with 20,000 words and 60 findings.
func BenchmarkRenderLong(b *testing.B) {
	s := begin("long", nil, caller, callee)
	for i := range 2000 {
		leg := caller
		if i%2 == 1 {
			leg = callee
		}
		s.say(leg, 5.4*float64(i), 5.4*float64(i)+4, fmt.Sprintf("turn %d has ten words in it and no more ok", i))
		if i%33 == 0 {
			s.find(fmt.Sprint(i), "urgency", callwardenv1.Stage_STAGE_PRESSURE, fmt.Sprintf("turn %d has", i), 3, nil)
		}
	}
	s.end(10800, "end of audio", true, caller, callee)
	r := s.report(s.sound(1, 10800), s.sound(2, 10800))
	for b.Loop() {
		if err := Render(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(rendered(b, r))), "page-bytes")
}
