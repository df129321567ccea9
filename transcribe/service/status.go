package service

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/transcribe"
)

// Reasons of refusals; transcribe.proto says what each is about.
const (
	reasonConfigExpected   = "CONFIG_EXPECTED"
	reasonConfigMissing    = "CONFIG_MISSING"
	reasonConfigLate       = "CONFIG_LATE"
	reasonOptionRefused    = "OPTION_REFUSED"
	reasonAudioRefused     = "AUDIO_REFUSED"
	reasonFull             = "FULL"
	reasonDraining         = "DRAINING"
	reasonAnswersNotRead   = "ANSWERS_NOT_READ"
	reasonRecogniserFailed = "RECOGNISER_FAILED"
	reasonTokenRefused     = "TOKEN_REFUSED"
)

// refusal is a status with its reason, and where retry is above 0, when to try
// again.
func refusal(code codes.Code, reason string, retry time.Duration, message string) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "callwarden", Reason: reason}}
	if retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	s := status.New(code, message)
	if with, err := s.WithDetails(details...); err == nil {
		s = with
	}
	return s.Err()
}

// refused is the status of what an engine or a session said; nil for nil.
func refused(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the stream was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the stream took longer than its client allowed")
	case errors.Is(err, transcribe.ErrOption):
		return refusal(codes.InvalidArgument, reasonOptionRefused, 0, err.Error())
	case errors.Is(err, transcribe.ErrFrame):
		return refusal(codes.InvalidArgument, reasonAudioRefused, 0, err.Error())
	case errors.Is(err, transcribe.ErrClosed):
		return refusal(codes.Unavailable, reasonDraining, 0, err.Error())
	}
	return refusal(codes.Internal, reasonRecogniserFailed, 0, err.Error())
}

// reasonOf is the reason in a status, for counting; its code where it has none.
func reasonOf(err error) string {
	s := status.Convert(err)
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return s.Code().String()
}
