package board

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// Act is what a person does about a call.
type Act struct {
	Key    Key
	Source string // the call's way in; empty where it is not known
	Who    string
	Action callwardenv1.Action
	Note   string
	Undoes string // id of the action that is taken back
	When   time.Time
}

// Event is the act as an event for everybody. Digits of the note are masked:
// people write down what they hear. The same act is the same event.
func (a Act) Event() sink.Event {
	source := a.Source
	if source == "" {
		source = "desk"
	}
	return sink.Event{
		ID:     sink.EventID(a.Key.Tenant, a.Key.Call, sink.CallAction, a.Who, a.Action, a.When.UnixNano(), a.Undoes),
		Type:   sink.CallAction,
		Tenant: a.Key.Tenant,
		Call:   a.Key.Call,
		Source: "callwarden/" + source,
		Time:   a.When.UTC(),
		Data: &callwardenv1.CallAction{
			Context: &callwardenv1.CallContext{Tenant: a.Key.Tenant, Call: a.Key.Call, Source: source},
			When:    timestamppb.New(a.When),
			Who:     a.Who,
			Action:  a.Action,
			Note:    spoken.Mask(a.Note),
			Undoes:  a.Undoes,
		},
	}
}
