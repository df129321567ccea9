package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/callwarden/callwarden/pipeline/back"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

// backConfig is what goes back to where calls came from.
type backConfig struct {
	Sources backSources `yaml:"sources"`
	Prompts []back.Own  `yaml:"prompts"`
}

type backSources struct {
	WHIP        back.Way `yaml:"whip"`
	Twilio      back.Way `yaml:"twilio"`
	Fork        back.Way `yaml:"fork"`
	AudioHook   back.Way `yaml:"audiohook"`
	GRPC        back.Way `yaml:"grpc"`
	AudioSocket back.Way `yaml:"audiosocket"`
}

// defaultBack tells a call's own parties everything, and machines in between
// what they can act on. Nothing is spoken unasked.
func defaultBack() backConfig {
	return backConfig{Sources: backSources{
		WHIP:        back.Way{Events: back.All},
		Twilio:      back.Way{Events: back.None},
		Fork:        back.Way{Events: back.Risk},
		AudioHook:   back.Way{Events: back.Risk},
		GRPC:        back.Way{Events: back.All},
		AudioSocket: back.Way{Events: back.None},
	}}
}

func (c backConfig) config() back.Config {
	s := c.Sources
	return back.Config{Prompts: c.Prompts, Sources: map[string]back.Way{
		"whip": s.WHIP, "twilio": s.Twilio, "fork": s.Fork, "audiohook": s.AudioHook, "grpc": s.GRPC, "audiosocket": s.AudioSocket,
	}}
}

// Validate says which key is wrong and what it must be. It reads the recordings
// that the keys name: one that cannot be spoken would be found when it is
// needed, in a call that is a fraud.
func (c backConfig) Validate() error {
	var errs []error
	for name, way := range map[string]back.Way{"twilio": c.Sources.Twilio, "audiosocket": c.Sources.AudioSocket} {
		if way.Events != back.None {
			errs = append(errs, fmt.Errorf("sources.%s.events: %q must be none: the protocol has no message for them", name, way.Events))
		}
	}
	if p := c.Sources.AudioHook.Prompt; p != "" {
		errs = append(errs, fmt.Errorf("sources.audiohook.prompt: %q must be empty: the protocol has no way to speak into a call", p))
	}
	own := c.config()
	if err := errors.Join(append(errs, own.Validate())...); err != nil {
		return err
	}
	return own.Check()
}

// takeCommands does what is asked for over NATS, where that is wanted, until
// the function that it returns is called: also while calls end.
func (s *server) takeCommands(ctx context.Context, way *back.Back) (stop func()) {
	if !s.cfg.Sinks.NATS.Enabled || !s.cfg.Sinks.NATS.Commands {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	at := s.natsAt
	at.Name += "-commands"
	var taking sync.WaitGroup
	taking.Go(func() {
		err := natssink.TakeCommands(ctx, at, s.log, func(ctx context.Context, tenant, call string, cmd natssink.Command) error {
			err := way.Play(ctx, tenant, call, cmd.Play, cmd.Who)
			if errors.Is(err, back.ErrNoCall) {
				return natssink.ErrNotMine
			}
			return err
		})
		if err != nil {
			s.log.Error("no commands are taken", "err", err)
		}
	})
	return func() { cancel(); taking.Wait() }
}
