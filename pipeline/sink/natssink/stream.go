package natssink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stored subjects: what the stream keeps.
var storedSubjects = [...]string{subjectRoot + "risk.>", subjectRoot + "call.>"}

// managed is the stream's metadata key under which we note what we set, so
// that a stream which an operator has changed since can be told from one that
// an older configuration of ours made.
const managed = "callwarden-managed"

func (c Config) streamConfig() jetstream.StreamConfig {
	maxBytes := c.MaxBytes
	if maxBytes == 0 {
		maxBytes = -1
	}
	sc := jetstream.StreamConfig{
		Name:        c.Stream,
		Description: "risk and call events of callwarden",
		Subjects:    storedSubjects[:],
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      c.MaxAge,
		MaxBytes:    maxBytes,
		Replicas:    c.Replicas,
		Duplicates:  c.Dedup,
		AllowDirect: true,
	}
	sc.Metadata = map[string]string{managed: noteOf(sc)}
	return sc
}

// noteOf writes down what we set of a stream.
func noteOf(sc jetstream.StreamConfig) string {
	return fmt.Sprintf("subjects=%s retention=%s storage=%s discard=%s max_age=%s max_bytes=%d replicas=%d dedup=%s",
		strings.Join(sc.Subjects, ","), sc.Retention, sc.Storage, sc.Discard, sc.MaxAge, sc.MaxBytes, sc.Replicas, sc.Duplicates)
}

// errStream marks a stream that cannot take our events until a person changes
// something.
var errStream = errors.New("stream does not fit")

// ensureStream makes the stream stand. Errors wrapping errStream are for a
// person, others pass.
func ensureStream(ctx context.Context, js jetstream.JetStream, cfg Config, log *slog.Logger) error {
	want := cfg.streamConfig()
	st, err := js.Stream(ctx, cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, want)
		if err == nil {
			log.Info("nats stream created", "stream", cfg.Stream)
			return nil
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another sink was faster
			st, err = js.Stream(ctx, cfg.Stream)
		}
	}
	if err != nil {
		return streamError(ctx, js, cfg, err)
	}
	have := st.CachedInfo().Config
	note, ours := have.Metadata[managed]
	if ours && note == noteOf(have) {
		if note == noteOf(want) {
			return nil
		}
		if _, err := js.UpdateStream(ctx, want); err != nil {
			return streamError(ctx, js, cfg, err)
		}
		log.Info("nats stream updated", "stream", cfg.Stream)
		return nil
	}
	for _, s := range storedSubjects {
		if !slices.ContainsFunc(have.Subjects, func(pattern string) bool { return covers(pattern, s) }) {
			return fmt.Errorf("%w: %q does not keep %s; add the subject to it, or name another stream", errStream, cfg.Stream, s)
		}
	}
	log.Info("nats stream left as its operator configured it", "stream", cfg.Stream)
	return nil
}

// streamError sorts what the JetStream API answered into what a person must
// change and what passes.
func streamError(ctx context.Context, js jetstream.JetStream, cfg Config, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return fmt.Errorf("%w: %s has no JetStream; start it with JetStream (nats-server -js): %w", errStream, cfg.target(), err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w: this account of %s has no JetStream", errStream, cfg.target())
	case errors.As(err, &api) && api.ErrorCode == codeSubjectOverlap:
		for _, s := range storedSubjects {
			if other, err := js.StreamNameBySubject(ctx, s); err == nil && other != cfg.Stream {
				return fmt.Errorf("%w: stream %q already keeps subjects of %s; publish into it (stream: %s), "+
					"or take the subjects from it", errStream, other, s, other)
			}
		}
		return fmt.Errorf("%w: another stream already keeps subjects of %s: %w", errStream, subjectRoot, err)
	case errors.As(err, &api) && api.Code == 400:
		return fmt.Errorf("%w: %q: %w", errStream, cfg.Stream, err)
	}
	return fmt.Errorf("looking after stream %q: %w", cfg.Stream, err)
}

// Error codes of the JetStream API that nats.go has no name for.
const (
	codeAccountLimit   jetstream.ErrorCode = 10002 // resource limits exceeded for account
	codeSubjectOverlap jetstream.ErrorCode = 10065
	codeStoreFailed    jetstream.ErrorCode = 10077 // also: discard new, and full
)

// covers says whether every subject that matches sub also matches pattern.
func covers(pattern, sub string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(sub, ".")
	for i, tok := range p {
		switch {
		case tok == ">":
			return i < len(s)
		case i >= len(s) || s[i] == ">":
			return false
		case tok != "*" && tok != s[i]:
			return false
		}
	}
	return len(p) == len(s)
}
