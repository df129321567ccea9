package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// maxEvent bounds an event from outside. A segment of a minute with every word
// timed is some 30 kB; NATS servers refuse more than 1 MiB by default.
const maxEvent = 1 << 20 // bytes

const maxAttribute = 1024 // bytes; ours are under 200

// ErrNotEvent is wrapped by every error about bytes that are no event of ours.
// Whoever follows other people's subjects counts it and goes on.
var ErrNotEvent = errors.New("not a callwarden event")

// Attributes are the CloudEvents context attributes of an event, by name and
// in their canonical string form. "time" is absent where it is unknown.
func (e Event) Attributes() map[string]string {
	a := map[string]string{
		"specversion":     "1.0",
		"id":              e.ID,
		"source":          e.Source,
		"type":            string(e.Type),
		"subject":         e.Call,
		"datacontenttype": "application/json",
	}
	if !e.Time.IsZero() {
		a["time"] = e.Time.UTC().Format(time.RFC3339Nano)
	}
	return a
}

// envelope is the CloudEvents JSON format, in the order in which it is
// written (CloudEvents JSON event format 1.0, section 3).
type envelope struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            string          `json:"time,omitempty"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	Data            json.RawMessage `json:"data"`
}

// CloudEvent is the event in the CloudEvents JSON format, on one line without
// a line feed. Equal events are equal bytes.
func (e Event) CloudEvent() ([]byte, error) {
	data, err := e.JSON()
	if err != nil {
		return nil, err
	}
	a := e.Attributes()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(envelope{
		SpecVersion: a["specversion"], ID: a["id"], Source: a["source"], Type: a["type"],
		Subject: a["subject"], Time: a["time"], DataContentType: a["datacontenttype"], Data: data,
	}); err != nil {
		return nil, fmt.Errorf("marshalling %s: %w", e.Type, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// ParseCloudEvent reads an event in the CloudEvents JSON format. Attributes
// that it does not know are passed over. Its errors wrap ErrNotEvent.
func ParseCloudEvent(b []byte) (Event, error) {
	if len(b) > maxEvent {
		return Event{}, fmt.Errorf("%w: %d bytes, limit %d", ErrNotEvent, len(b), maxEvent)
	}
	var env envelope
	if err := json.Unmarshal(b, &env); err != nil {
		return Event{}, fmt.Errorf("%w: no CloudEvents JSON", ErrNotEvent)
	}
	return FromAttributes(map[string]string{
		"specversion": env.SpecVersion, "id": env.ID, "source": env.Source, "type": env.Type,
		"subject": env.Subject, "time": env.Time, "datacontenttype": env.DataContentType,
	}, env.Data)
}

// FromAttributes builds an event from its CloudEvents context attributes and
// its data as protojson. An attribute that is empty counts as absent; those it
// does not know are passed over, and so are fields of the data that a newer
// version may have added. What it returns has an id, a source, a known type
// and names free of control characters, and its data matches its type, tenant
// and call. Its errors wrap ErrNotEvent and name the attribute and the rule.
func FromAttributes(attr map[string]string, data []byte) (Event, error) {
	// The errors of the JSON decoders are left out: they quote the data, which
	// may be what somebody said, and these errors are logged.
	refuse := func(format string, args ...any) (Event, error) {
		return Event{}, fmt.Errorf("%w: %s", ErrNotEvent, fmt.Sprintf(format, args...))
	}
	if len(data) > maxEvent {
		return refuse("data: %d bytes, limit %d", len(data), maxEvent)
	}
	if attr["specversion"] != "1.0" {
		return refuse("specversion: is not 1.0")
	}
	for _, name := range []string{"id", "source", "type", "subject"} {
		if attr[name] == "" {
			return refuse("%s: missing", name)
		}
		if len(attr[name]) > maxAttribute {
			return refuse("%s: %d bytes, limit %d", name, len(attr[name]), maxAttribute)
		}
		if !printable(attr[name]) {
			return refuse("%s: has control characters or is not UTF-8", name)
		}
	}
	if t := attr["datacontenttype"]; t != "" && !isJSON(t) {
		return refuse("datacontenttype: is not application/json")
	}
	ev := Event{ID: attr["id"], Source: attr["source"], Type: Type(attr["type"]), Call: attr["subject"]}
	if t := attr["time"]; t != "" {
		var err error
		if ev.Time, err = time.Parse(time.RFC3339Nano, t); err != nil {
			return refuse("time: is not RFC 3339")
		}
		ev.Time = ev.Time.UTC()
	}
	msg := newData(ev.Type)
	if msg == nil {
		return refuse("type: %q is unknown", ev.Type)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, msg); err != nil {
		return refuse("data: is no %s", ev.Type)
	}
	about := msg.(interface {
		GetContext() *callwardenv1.CallContext
	}).GetContext()
	if about.GetCall() != ev.Call {
		return refuse("data: is about another call than subject")
	}
	if ev.Tenant = about.GetTenant(); ev.Tenant == "" || len(ev.Tenant) > maxAttribute || !printable(ev.Tenant) {
		return refuse("data: tenant is no name")
	}
	ev.At, ev.Data = At(msg), msg
	return ev, nil
}

// At is the place on the media clock that an event's data speaks of: when it
// was known, and for a segment or an ended call where that ends.
func At(data proto.Message) time.Duration {
	var at *durationpb.Duration
	switch d := data.(type) {
	case *callwardenv1.RiskFinding:
		at = d.GetAt()
	case *callwardenv1.RiskLevel:
		at = d.GetAt()
	case *callwardenv1.CallStatus:
		at = d.GetAt()
	case *callwardenv1.CallEnded:
		at = d.GetDuration()
	case *callwardenv1.CallLevels:
		at = d.GetStart()
	case *callwardenv1.TranscriptSegment:
		at = d.GetEnd()
	}
	return at.AsDuration()
}

// newData is an empty message of the type's data, nil where the type is unknown.
func newData(t Type) proto.Message {
	switch t {
	case RiskFinding:
		return new(callwardenv1.RiskFinding)
	case RiskLevel:
		return new(callwardenv1.RiskLevel)
	case CallStarted:
		return new(callwardenv1.CallStarted)
	case CallStatus:
		return new(callwardenv1.CallStatus)
	case CallEnded:
		return new(callwardenv1.CallEnded)
	case CallAction:
		return new(callwardenv1.CallAction)
	case CallLevels:
		return new(callwardenv1.CallLevels)
	case TranscriptSegment:
		return new(callwardenv1.TranscriptSegment)
	}
	return nil
}

func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == "application/json"
}

// printable says whether s is what CloudEvents allows in a string: UTF-8
// without control characters (CloudEvents 1.0, section 2.3 "String").
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
