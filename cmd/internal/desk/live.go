package desk

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

const (
	// beatEvery is how long a stream may be without a word: who hears none for
	// some times that knows that it is cut.
	beatEvery = 10 * time.Second
	// writeMost is how long a browser may take to read what it is sent. What
	// has changed meanwhile is not queued but told together, so a slow reader
	// costs nothing; one that does not read at all is cut.
	writeMost = 15 * time.Second
	// together is how long changes are gathered after one was told: nobody sees
	// more than twelve a second, and each costs as much as ten rows in it.
	together = 80 * time.Millisecond
	// statusEvery is how often the figures of the machines are told.
	statusEvery = 2 * time.Second
)

// stream is one that a browser follows: server-sent events (HTML standard,
// section 9.2), deflated where the browser can.
type stream struct {
	w    io.Writer
	zip  *gzip.Writer // nil where it is not
	rc   *http.ResponseController
	last time.Time // when something was sent
}

func startStream(w http.ResponseWriter, r *http.Request) (*stream, error) {
	s := &stream{w: w, rc: http.NewResponseController(w)}
	// The server's own limit is for requests that end.
	if err := s.rc.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // of proxies that would wait for more
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		s.w, s.zip = zip, zip
	}
	w.WriteHeader(http.StatusOK)
	return s, nil
}

// send sends one event; id may be empty.
func (s *stream) send(event, id string, data any) error {
	b, err := marshal(data)
	if err != nil {
		return err
	}
	return s.sendJSON(event, id, b)
}

// sendJSON sends data, which is JSON in one line.
func (s *stream) sendJSON(event, id string, data []byte) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(writeMost)); err != nil {
		return err
	}
	head := "event: " + event + "\n"
	if id != "" {
		head += "id: " + id + "\n"
	}
	var errs [4]error
	_, errs[0] = io.WriteString(s.w, head+"data: ")
	_, errs[1] = s.w.Write(data)
	_, errs[2] = io.WriteString(s.w, "\n\n")
	if s.zip != nil {
		errs[3] = s.zip.Flush()
	}
	s.last = time.Now()
	return errors.Join(append(errs[:], s.rc.Flush())...)
}

// marshal writes v as JSON in one line, without escaping what a page never
// takes for markup.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// The events of streams.
type (
	snapshot struct {
		Now    board.Millis      `json:"now"`
		Calls  []json.RawMessage `json:"calls"`
		Status *status           `json:"status"`
	}
	delta struct {
		Now   board.Millis      `json:"now"`
		Calls []json.RawMessage `json:"calls,omitempty"`
		Gone  []string          `json:"gone,omitempty"`
	}
	beat struct {
		Now board.Millis `json:"now"`
	}
	bye struct {
		Code  string `json:"code"`
		Error string `json:"error"`
	}
)

var (
	byeGoing  = bye{"going_away", "the desk is being shut down"}
	byeSignIn = bye{"sign_in", "you are not signed in any more"}
)

// live streams the overview: all rows, then what changes.
func (d *Desk) live(w http.ResponseWriter, r *http.Request, u *user) error {
	s, err := startStream(w, r)
	if err != nil {
		return err
	}
	d.follows(s, r, u)
	return nil // who does not read any more need not be told
}

// follows streams the overview until the browser is gone, does not read, or is
// not let in any more.
func (d *Desk) follows(s *stream, r *http.Request, u *user) {
	var err error
	version := d.resumeFrom(r)
	var told *status
	for first := true; ; first = false {
		rows, gone, now, resumed := d.board.Since(version)
		out := delta{Now: d.millis(), Calls: d.encode(rows, u), Gone: goneOf(gone, u)}
		id := d.epoch + "-" + strconv.FormatUint(now, 10)
		switch {
		case !resumed:
			told = d.status(u)
			err = s.send("snapshot", id, snapshot{out.Now, out.Calls, told})
		case len(out.Calls)+len(out.Gone) > 0 || first:
			err = s.send("delta", id, out)
		}
		if err != nil {
			return
		}
		version = now
		if first && resumed {
			told = d.status(u)
			err = s.send("status", "", told)
		}
		if err == nil {
			told, err = d.between(s, r, u, version, told)
		}
		if err != nil {
			return
		}
	}
}

// errOver ends a stream that has said goodbye.
var errOver = errors.New("the stream is over")

// between waits until a row changes after version, and tells meanwhile what
// else there is. It returns the status that was told last.
func (d *Desk) between(s *stream, r *http.Request, u *user, version uint64, told *status) (*status, error) {
	gather := time.NewTimer(together)
	defer gather.Stop()
	select {
	case <-r.Context().Done():
		return told, errOver
	case <-gather.C:
	}
	changed := d.board.Changed(version)
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		people := d.door.watch() // before looking, or what changes in between is missed
		if err := d.still(s, r, u); err != nil {
			return told, err
		}
		select {
		case <-changed:
			return told, nil
		case <-people:
			continue
		case <-d.stateChanged():
		case <-tick.C:
		case <-d.closing:
			return told, errors.Join(s.send("bye", "", byeGoing), errOver)
		case <-r.Context().Done():
			return told, errOver
		}
		if now := d.status(u); !now.same(told) {
			if err := s.send("status", "", now); err != nil {
				return told, err
			}
			told = now
		} else if time.Since(s.last) >= beatEvery {
			if err := s.send("beat", "", beat{d.millis()}); err != nil {
				return told, err
			}
		}
	}
}

// still says goodbye to who is not let in any more, or as somebody else.
func (d *Desk) still(s *stream, r *http.Request, u *user) error {
	if now, err := d.door.who(r, d.now()); err == nil && u.same(now) {
		return nil
	}
	return errors.Join(s.send("bye", "", byeSignIn), errOver)
}

// resumeFrom is the version up to which the browser has all, 0 for nothing.
func (d *Desk) resumeFrom(r *http.Request) uint64 {
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = r.URL.Query().Get("since")
	}
	epoch, version, ok := strings.Cut(id, "-")
	if !ok || epoch != d.epoch {
		return 0
	}
	v, err := strconv.ParseUint(version, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// encode writes the rows that u may see. What was written once is kept for all
// who look on.
func (d *Desk) encode(rows []*board.Row, u *user) []json.RawMessage {
	out := make([]json.RawMessage, 0, len(rows))
	d.encodedMu.Lock()
	defer d.encodedMu.Unlock()
	for _, row := range rows {
		if !u.sees(row.Tenant) {
			continue
		}
		e := d.encoded[row.Key()]
		if e.version != row.Version() {
			b, err := marshal(row)
			if err != nil {
				d.log.Error("a call cannot be shown", "call", row.ID, "err", err)
				continue
			}
			e = encoded{row.Version(), b}
			d.encoded[row.Key()] = e
		}
		out = append(out, e.json)
	}
	return out
}

type encoded struct {
	version uint64
	json    json.RawMessage
}

func goneOf(keys []board.Key, u *user) []string {
	var gone []string
	for _, k := range keys {
		if u.sees(k.Tenant) {
			gone = append(gone, k.String())
		}
	}
	return gone
}

// callUpdate is what has changed of a call.
type callUpdate struct {
	Now board.Millis `json:"now"`
	board.Update
	// The facts of a call are beside the rest, as in the call itself.
	Facts      *board.Facts      `json:"facts,omitempty"` // shadows that of Update, and stays empty
	Attributes map[string]string `json:"attributes,omitempty"`
	Backend    string            `json:"backend,omitempty"`
	Model      string            `json:"model,omitempty"`
}

func (u *callUpdate) empty() bool {
	v := u.Update
	return v.Row == nil && v.Facts == nil && v.Legs == nil && v.Findings == nil && v.Shares == nil && v.Steps == nil && v.Advice == nil &&
		v.Curve == nil && v.Status == nil && v.Actions == nil && v.Segments == nil && v.Levels == nil && v.End == nil
}

// callLive streams one call: all of it, then what changes.
func (d *Desk) callLive(w http.ResponseWriter, r *http.Request, u *user) error {
	key, err := d.key(r, u)
	if err != nil {
		return err
	}
	c, at, ok := d.board.Follow(key)
	if !ok {
		return errNotFound
	}
	d.look(r, u, key)
	s, err := startStream(w, r)
	if err != nil {
		return err
	}
	if err := s.send("snapshot", "", wholeCall{Now: d.millis(), Call: c}); err != nil {
		return nil
	}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		next, changed, ok := d.board.Next(at)
		if !ok {
			_ = s.send("gone", "", beat{d.millis()})
			return nil
		}
		people := d.door.watch()
		if err := d.still(s, r, u); err != nil {
			return nil
		}
		out := callUpdate{Now: d.millis(), Update: next}
		if f := next.Facts; f != nil {
			out.Attributes, out.Backend, out.Model = f.Attributes, f.Backend, f.Model
		}
		if !out.empty() {
			if err := s.send("update", "", &out); err != nil {
				return nil
			}
		} else if time.Since(s.last) >= beatEvery-time.Second {
			if err := s.send("beat", "", beat{d.millis()}); err != nil {
				return nil
			}
		}
		gather := time.NewTimer(together)
		select {
		case <-gather.C:
		case <-r.Context().Done():
			gather.Stop()
			return nil
		}
		select {
		case <-changed:
		case <-people:
		case <-tick.C:
		case <-d.closing:
			_ = s.send("bye", "", byeGoing)
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}
