package grpcsrc

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// reason is why a request is refused or a call ended; call.proto says what each
// is about.
type reason string

const (
	openExpected  reason = "OPEN_EXPECTED"
	openMissing   reason = "OPEN_MISSING"
	openLate      reason = "OPEN_LATE"
	optionRefused reason = "OPTION_REFUSED"
	audioRefused  reason = "AUDIO_REFUSED"
	callExists    reason = "CALL_EXISTS"
	tokenRefused  reason = "TOKEN_REFUSED"
	tenantRefused reason = "TENANT_REFUSED"
	rightRefused  reason = "RIGHT_REFUSED"
	busy          reason = "BUSY"
	full          reason = "FULL"
	notMonitored  reason = "NOT_MONITORED"
	noAudio       reason = "NO_AUDIO"
	cutOff        reason = "CUT_OFF"
	draining      reason = "DRAINING"
	eventsNotRead reason = "EVENTS_NOT_READ"
	failed        reason = "FAILED"
	notPublished  reason = "NOT_PUBLISHED"
	tooLong       reason = "MESSAGE_TOO_LONG" // in our log: gRPC itself tells the client, without it
)

var codeOf = map[reason]codes.Code{
	openExpected: codes.FailedPrecondition, openMissing: codes.InvalidArgument, openLate: codes.DeadlineExceeded,
	optionRefused: codes.InvalidArgument, audioRefused: codes.InvalidArgument, callExists: codes.AlreadyExists,
	tokenRefused: codes.Unauthenticated, tenantRefused: codes.PermissionDenied, rightRefused: codes.PermissionDenied,
	busy: codes.ResourceExhausted, full: codes.ResourceExhausted, notMonitored: codes.PermissionDenied,
	noAudio: codes.DeadlineExceeded, cutOff: codes.Unavailable, draining: codes.Unavailable,
	eventsNotRead: codes.DeadlineExceeded, failed: codes.Internal, notPublished: codes.Unavailable, tooLong: codes.ResourceExhausted,
}

// When to try again, where that may help.
var retryAfter = map[reason]time.Duration{busy: 2 * time.Second, full: 2 * time.Second, notPublished: time.Second}

// refusal is an error that a client is told with its reason. Its text alone is
// what an event says of the call's end.
type refusal struct {
	reason reason
	text   string
}

func refuse(why reason, format string, args ...any) error {
	return &refusal{why, fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.text }

// GRPCStatus is what gRPC tells the client.
func (r *refusal) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "callwarden", Reason: string(r.reason)}}
	if d := retryAfter[r.reason]; d > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	}
	s := status.New(codeOf[r.reason], r.text)
	if with, err := s.WithDetails(details...); err == nil {
		s = with
	}
	return s
}
