package grpcsrc

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// onWire is ev as clients are told it; nil where the service has no shape for
// it. The data is shared.
func onWire(ev sink.Event) *callwardenv1.CallEvent {
	out := &callwardenv1.CallEvent{Id: ev.ID}
	if !ev.Time.IsZero() {
		out.Time = timestamppb.New(ev.Time)
	}
	switch d := ev.Data.(type) {
	case *callwardenv1.CallStarted:
		out.Data = &callwardenv1.CallEvent_Started{Started: d}
	case *callwardenv1.CallStatus:
		out.Data = &callwardenv1.CallEvent_Status{Status: d}
	case *callwardenv1.RiskFinding:
		out.Data = &callwardenv1.CallEvent_Finding{Finding: d}
	case *callwardenv1.RiskLevel:
		out.Data = &callwardenv1.CallEvent_Level{Level: d}
	case *callwardenv1.TranscriptSegment:
		out.Data = &callwardenv1.CallEvent_Transcript{Transcript: d}
	case *callwardenv1.CallLevels:
		out.Data = &callwardenv1.CallEvent_Levels{Levels: d}
	case *callwardenv1.CallAction:
		out.Data = &callwardenv1.CallEvent_Action{Action: d}
	case *callwardenv1.CallEnded:
		out.Data = &callwardenv1.CallEvent_Ended{Ended: d}
	default:
		return nil
	}
	return out
}
