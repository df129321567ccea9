package desk

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // pages of a day are of the reader's zone, whatever this machine knows

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

// filter says which calls of the history are wanted.
type filter struct {
	words    []string // each has to be somewhere in the row
	from, to board.Millis
	level    int // at least
	tactic   string
	source   string
	tenant   string
	number   *number
	numberID string
	verdict  string
	spoken   bool // words are looked for in what was said, too
}

func (d *Desk) filter(r *http.Request) (f filter, err error) {
	q := r.URL.Query()
	f = filter{
		words: strings.Fields(strings.ToLower(q.Get("q"))), tactic: q.Get("tactic"), source: q.Get("source"),
		tenant: q.Get("tenant"), verdict: q.Get("verdict"), numberID: q.Get("number_id"), spoken: q.Get("spoken") == "1", to: 1 << 60,
	}
	for name, into := range map[string]*board.Millis{"from": &f.from, "to": &f.to} {
		if s := q.Get(name); s != "" {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < 0 {
				return f, refuse(http.StatusBadRequest, "bad", "%s: must be milliseconds since 1970", name)
			}
			*into = board.Millis(n)
		}
	}
	if s := q.Get("level"); s != "" {
		if f.level = board.LevelRank(s); f.level < 0 {
			return f, refuse(http.StatusBadRequest, "bad", "level: must be none, notice, warning or critical")
		}
	}
	switch f.verdict {
	case "", "scam", "not_scam", "none":
	default:
		return f, refuse(http.StatusBadRequest, "bad", "verdict: must be scam, not_scam or none")
	}
	if s := q.Get("number"); s != "" {
		n, err := d.parseNumber(s)
		if err != nil {
			return f, err
		}
		f.number = &n
	}
	return f, nil
}

// number is a number that calls are wanted of.
type number struct {
	id     string // empty without a key
	digits string
}

const numberLeast = 3 // digits

func (d *Desk) parseNumber(s string) (number, error) {
	n := number{pipeline.NumberID(d.numberKey, s), digits(s)}
	if len(n.digits) < numberLeast {
		return number{}, refuse(http.StatusBadRequest, "bad", "number: must have at least %d digits", numberLeast)
	}
	return n, nil
}

func digits(s string) string {
	s, _, _ = strings.Cut(s, "@") // of a SIP address the user
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

// isParty says whether one of the call's parties has the number. Where it is
// written in full its last digits count, as a country's prefix is written or
// not. Masked digits are nobody's, but for their id.
func (n number) isParty(row *board.Row) bool {
	if n.id != "" && (n.id == row.FromID || n.id == row.ToID) {
		return true
	}
	abroad := strings.TrimLeft(n.digits, "0") // as it follows a country's prefix
	for _, party := range []string{row.From, row.To} {
		have := digits(party)
		switch {
		case strings.ContainsRune(party, '#'), len(have) < numberLeast:
		case strings.HasSuffix(have, n.digits), len(abroad) >= 7 && strings.HasSuffix(have, abroad):
			return true
		case len(have) >= 7 && strings.HasSuffix(n.digits, strings.TrimLeft(have, "0")):
			return true
		}
	}
	return false
}

// wants says whether the row is wanted, as far as a row tells.
func (f *filter) wants(row *board.Row) bool {
	hasTactic := func(c board.Chip) bool { return c.Tactic == f.tactic }
	switch {
	case board.LevelRank(row.Peak) < f.level,
		f.tactic != "" && !slices.ContainsFunc(row.Tactics, hasTactic),
		f.source != "" && row.Source != f.source,
		f.tenant != "" && row.Tenant != f.tenant,
		f.number != nil && !f.number.isParty(row),
		f.numberID != "" && f.numberID != row.FromID && f.numberID != row.ToID,
		f.verdict == "none" && row.Verdict != "",
		f.verdict != "" && f.verdict != "none" && row.Verdict != f.verdict:
		return false
	}
	return f.spoken || f.hasWords(rowText(row))
}

func rowText(row *board.Row) string {
	parts := []string{row.ID, row.Tenant, row.Source, row.From, row.FromName, row.To, row.ToName, row.Level, row.Verdict, row.VerdictBy, row.Ack, row.Reason}
	for _, c := range row.Tactics {
		parts = append(parts, c.Tactic, strings.ReplaceAll(c.Tactic, "_", " "))
	}
	return strings.Join(parts, "\n")
}

func (f *filter) hasWords(text string) bool {
	text = strings.ToLower(text)
	for _, w := range f.words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// said is what was said and noted in a call.
func said(c board.Call) string {
	var b strings.Builder
	for _, s := range c.Segments {
		b.WriteString(s.Text)
		b.WriteByte('\n')
	}
	for _, f := range c.Findings {
		b.WriteString(f.Words)
		b.WriteByte('\n')
	}
	for _, a := range c.Actions {
		b.WriteString(a.Note)
		b.WriteByte('\n')
	}
	return b.String()
}

const (
	searchPage = 100
	searchMost = 1000
	// spokenMost is how many calls are read for one answer where words are
	// looked for in what was said; the answer then says where to go on.
	spokenMost = 1000
	exportMost = 100_000 // calls
)

// find gives the wanted calls that u may see, the latest first, until there
// are limit of them. next is where to go on, nil where there are no more.
func (d *Desk) find(u *user, f filter, after []byte, limit int) (rows []*board.Row, next []byte, err error) {
	if d.store == nil {
		return nil, nil, refuse(http.StatusNotFound, "not_found", "no history is kept; set desk.dir in callwarden.yml")
	}
	type candidate struct {
		place []byte
		row   *board.Row
	}
	for {
		var some []candidate
		most := limit - len(rows)
		if f.spoken {
			most = spokenMost
		}
		err = d.store.each(f.from, f.to, after, func(place []byte, row *board.Row) bool {
			if u.sees(row.Tenant) && f.wants(row) {
				some = append(some, candidate{slices.Clone(place), row})
			}
			return len(some) < most
		})
		if err != nil {
			return nil, nil, err
		}
		for _, c := range some {
			after = c.place
			if f.spoken {
				call, ok, err := d.store.get(c.row.Key())
				if err != nil {
					return nil, nil, err
				}
				if !ok || !f.hasWords(rowText(c.row)+"\n"+said(call)) {
					continue
				}
			}
			if rows = append(rows, c.row); len(rows) == limit {
				return rows, after, nil
			}
		}
		if len(some) < most {
			return rows, nil, nil
		}
		if f.spoken {
			return rows, after, nil
		}
	}
}

func (d *Desk) search(w http.ResponseWriter, r *http.Request, u *user) error {
	f, err := d.filter(r)
	if err != nil {
		return err
	}
	limit, err := count(r, "limit", searchPage, searchMost)
	if err != nil {
		return err
	}
	after, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("cursor"))
	if err != nil || len(after) > 1024 {
		return refuse(http.StatusBadRequest, "bad", "cursor: is none of ours")
	}
	if len(after) == 0 {
		after = nil
	}
	rows, next, err := d.find(u, f, after, max(limit, 1))
	if err != nil {
		return err
	}
	if f.spoken && len(f.words) > 0 || f.number != nil || f.numberID != "" {
		d.note(r, u, entry{What: "searched the history"})
	}
	return d.send(w, r, http.StatusOK, struct {
		Calls []*board.Row `json:"calls"`
		Next  string       `json:"next,omitempty"`
	}{list(rows), base64.RawURLEncoding.EncodeToString(next)})
}

// list is never null in JSON.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func zone(r *http.Request) (*time.Location, error) {
	name := r.URL.Query().Get("tz")
	if name == "" {
		return time.Local, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || len(name) > 64 {
		return nil, refuse(http.StatusBadRequest, "bad", "tz: is no time zone")
	}
	return zone, nil
}

type dayLine struct {
	Day      string `json:"day"`
	Calls    int    `json:"calls"`
	Alerts   int    `json:"alerts"`
	Critical int    `json:"critical"`
}

// days lists the days of the history, the latest first.
func (d *Desk) days(w http.ResponseWriter, r *http.Request, u *user) error {
	zone, err := zone(r)
	if err != nil {
		return err
	}
	f, err := d.filter(r)
	if err != nil {
		return err
	}
	var days []dayLine
	if d.store == nil {
		return refuse(http.StatusNotFound, "not_found", "no history is kept; set desk.dir in callwarden.yml")
	}
	err = d.store.each(f.from, f.to, nil, func(_ []byte, row *board.Row) bool {
		if !u.sees(row.Tenant) || !f.wants(row) {
			return true
		}
		day := row.Ended.Time().In(zone).Format(time.DateOnly)
		if n := len(days); n == 0 || days[n-1].Day != day {
			days = append(days, dayLine{Day: day})
		}
		line := &days[len(days)-1]
		line.Calls++
		if board.LevelRank(row.Peak) >= board.LevelRank("warning") {
			line.Alerts++
		}
		if row.Peak == "critical" {
			line.Critical++
		}
		return true
	})
	if err != nil {
		return err
	}
	return d.send(w, r, http.StatusOK, struct {
		Days []dayLine `json:"days"`
	}{list(days)})
}

// exportJSON sends the wanted calls, with all that is known of them, as one
// JSON array.
func (d *Desk) exportJSON(w http.ResponseWriter, r *http.Request, u *user) error {
	rows, err := d.export(r, u)
	if err != nil {
		return err
	}
	attach(w, "application/json; charset=utf-8", "calls.json")
	enc := json.NewEncoder(w)
	sep := "[\n"
	for _, row := range rows {
		c, ok, err := d.store.get(row.Key())
		if err != nil {
			d.log.Error("an export breaks off", "err", err)
			panic(http.ErrAbortHandler) // the browser must not take a part for the whole
		}
		if !ok {
			continue // deleted meanwhile
		}
		_, gone := w.Write([]byte(sep))
		if errors.Join(gone, enc.Encode(c)) != nil {
			break // nobody reads any more
		}
		sep = ","
	}
	if sep == "[\n" {
		sep = "["
	} else {
		sep = ""
	}
	_, _ = w.Write([]byte(sep + "]\n"))
	return nil
}

// export are the rows that an export wants.
func (d *Desk) export(r *http.Request, u *user) ([]*board.Row, error) {
	f, err := d.filter(r)
	if err != nil {
		return nil, err
	}
	var rows []*board.Row
	var after []byte
	for {
		some, next, err := d.find(u, f, after, exportMost-len(rows))
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
		if next == nil || len(rows) >= exportMost {
			break
		}
		after = next
	}
	d.note(r, u, entry{What: "exported the history", Detail: fmt.Sprintf("%d calls", len(rows))})
	return rows, nil
}

func attach(w http.ResponseWriter, kind, name string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}

// columns of the CSV export.
var columns = []string{
	"tenant", "call", "source", "began", "ended", "duration_s", "from", "from_name", "to", "to_name", "level", "score",
	"alert_at_s", "tactics", "hearing", "verdict", "verdict_by", "acknowledged_by", "notes", "prompts", "complete_end",
}

func (d *Desk) exportCSV(w http.ResponseWriter, r *http.Request, u *user) error {
	rows, err := d.export(r, u)
	if err != nil {
		return err
	}
	attach(w, "text/csv; charset=utf-8", "calls.csv")
	out := csv.NewWriter(w)
	_ = out.Write(columns)
	when := func(m board.Millis) string {
		if m == 0 {
			return ""
		}
		return m.Time().Format(time.RFC3339)
	}
	for _, row := range rows {
		var tactics []string
		for _, c := range row.Tactics {
			tactics = append(tactics, c.Tactic)
		}
		alert := ""
		if row.Alert != 0 {
			alert = fmt.Sprintf("%.1f", float64(row.AlertAt))
		}
		line := []string{
			row.Tenant, row.ID, row.Source, when(row.Start), when(row.Ended), fmt.Sprintf("%.1f", float64(row.Dur)),
			row.From, row.FromName, row.To, row.ToName, row.Peak, fmt.Sprintf("%.1f", row.PeakScore),
			alert, strings.Join(tactics, " "), row.Hearing, row.Verdict, row.VerdictBy, row.Ack,
			strconv.Itoa(row.Notes), strconv.Itoa(row.Prompts), strconv.FormatBool(row.State == board.Ended),
		}
		for i, cell := range line {
			line[i] = safeCell(cell)
		}
		_ = out.Write(line)
	}
	out.Flush() // its error is a browser that is gone
	return nil
}

// safeCell keeps a spreadsheet from taking what a caller called themselves for
// a formula (OWASP, CSV injection).
func safeCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// deleteCall removes a call everywhere: from the history, from the board, and
// its events from the stream.
func (d *Desk) deleteCall(w http.ResponseWriter, r *http.Request, u *user) error {
	key, err := d.key(r, u)
	if err != nil {
		return err
	}
	deleted, events, err := d.delete(r, u, key)
	if err != nil {
		return err
	}
	if deleted == 0 {
		return errNotFound
	}
	return d.send(w, r, http.StatusOK, map[string]int{"deleted": deleted, "events": events})
}

func (d *Desk) delete(r *http.Request, u *user, key board.Key) (deleted, events int, err error) {
	if row := d.board.Row(key); row != nil && row.State == board.Live {
		return 0, 0, refuse(http.StatusConflict, "bad", "the call goes on; it can be deleted when it is over")
	}
	if d.store != nil {
		if deleted, err = d.store.delete(key); err != nil {
			return 0, 0, err
		}
	}
	if d.board.Remove(key) {
		deleted = max(deleted, 1)
	}
	d.note(r, u, entry{What: "deleted", Tenant: key.Tenant, Call: key.Call})
	events, err = natssink.Purge(r.Context(), d.from.Connection, d.from.Stream, key.Tenant, key.Call)
	if err != nil {
		// It does not come back from there, and goes when the stream forgets.
		d.log.Warn("events of a deleted call stay in the stream until it forgets them", "call", key.Call, "err", err)
	}
	return deleted, events, nil
}

func (d *Desk) deleteByNumber(w http.ResponseWriter, r *http.Request, u *user) error {
	var in struct {
		Number string `json:"number"`
		Tenant string `json:"tenant"`
		Dry    bool   `json:"dry"`
	}
	if err := decode(w, r, &in); err != nil {
		return err
	}
	wanted, err := d.parseNumber(in.Number)
	if err != nil {
		return err
	}
	if len(wanted.digits) < deleteLeast {
		return refuse(http.StatusBadRequest, "bad", "number: must have at least %d digits: fewer are many people's", deleteLeast)
	}
	f := filter{number: &wanted, tenant: in.Tenant, to: 1 << 60}
	rows, _, err := d.find(u, f, nil, exportMost)
	if err != nil {
		return err
	}
	out := struct {
		Calls   int `json:"calls"`
		Deleted int `json:"deleted"`
		Events  int `json:"events"`
	}{Calls: len(rows)}
	if !in.Dry {
		for _, row := range rows {
			deleted, events, err := d.delete(r, u, row.Key())
			var f *fault
			if errors.As(err, &f) {
				continue // another call of that name goes on
			}
			if err != nil {
				return err
			}
			out.Deleted += min(deleted, 1)
			out.Events += events
		}
		d.note(r, u, entry{What: "deleted by number", Tenant: in.Tenant, Detail: fmt.Sprintf("%d calls", out.Deleted)})
	}
	return d.send(w, r, http.StatusOK, out)
}

const deleteLeast = 6

const auditPage = 1000

func (d *Desk) auditLog(w http.ResponseWriter, r *http.Request, u *user) error {
	if d.audit == nil {
		return refuse(http.StatusNotFound, "not_found", "no audit log is kept; set desk.dir in callwarden.yml")
	}
	limit, err := count(r, "limit", 200, auditPage)
	if err != nil {
		return err
	}
	before, err := count(r, "before", 1<<60, 1<<60)
	if err != nil {
		return err
	}
	entries, err := d.audit.last(max(limit, 1), func(e entry) bool {
		return e.When < board.Millis(before) && (e.Tenant == "" && u.sees("*") || u.sees(e.Tenant))
	})
	if err != nil {
		return err
	}
	return d.send(w, r, http.StatusOK, struct {
		Entries []entry `json:"entries"`
	}{list(entries)})
}
