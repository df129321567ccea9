// Package sink says how events go out. Each way out is a folder below it.
package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Type is a CloudEvents type.
type Type string

const (
	RiskFinding       Type = "callwarden.risk.finding.v1"
	RiskLevel         Type = "callwarden.risk.level.v1"
	CallStarted       Type = "callwarden.call.started.v1"
	CallStatus        Type = "callwarden.call.status.v1"
	CallEnded         Type = "callwarden.call.ended.v1"
	CallAction        Type = "callwarden.call.action.v1"
	CallLevels        Type = "callwarden.call.levels.v1"
	TranscriptSegment Type = "callwarden.transcript.segment.v1"
)

// Passing reports whether events of this type are worth something only while
// the call goes on. They are many, and a sink keeps none unless it is asked to.
func (t Type) Passing() bool { return t == TranscriptSegment || t == CallLevels }

// Event is one thing said of one call. Sinks share it and must not change it.
type Event struct {
	ID     string // see EventID
	Type   Type
	Tenant string
	Call   string
	Source string        // CloudEvents source: "callwarden/<way in>"
	At     time.Duration // media clock
	Time   time.Time     // wall clock; zero where the call's beginning is unknown
	Data   proto.Message // one of callwardenv1
}

// Sink takes the events of all calls. Publish may be called from any
// goroutine; the events of one call come from one goroutine, in order, but for
// what people do about it (CallAction), which comes when it comes.
type Sink interface {
	// Publish takes ev or says why not. It may wait for room until ctx ends;
	// a nil error means that the sink now answers for the event.
	Publish(ctx context.Context, ev Event) error
	// Close delivers what Publish took, until ctx ends. Its error says what
	// could not be delivered.
	Close(ctx context.Context) error
}

// EventID derives an event's id from what makes it that event: the same call
// heard again gives the same ids, so a store that drops ids it has seen drops
// what is published twice.
func EventID(tenant, call string, typ Type, what ...any) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q", tenant, call, typ)
	for _, w := range what {
		fmt.Fprintf(h, " %q", fmt.Sprint(w))
	}
	return idEncoding.EncodeToString(h.Sum(nil)[:15])
}

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// JSON is the event's data as protojson with its white space, which protojson
// varies on purpose, taken out: equal events are equal bytes.
func (e Event) JSON() ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e.Data)
	if err != nil {
		return nil, fmt.Errorf("marshalling %s: %w", e.Type, err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, fmt.Errorf("compacting %s: %w", e.Type, err)
	}
	return b.Bytes(), nil
}
