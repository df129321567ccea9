package main

import (
	"log/slog"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/audiohooksrc"
	"github.com/callwarden/callwarden/pipeline/source/audiosocketsrc"
	"github.com/callwarden/callwarden/pipeline/source/forksrc"
	"github.com/callwarden/callwarden/pipeline/source/grpcsrc"
	"github.com/callwarden/callwarden/pipeline/source/rtpsrc"
	"github.com/callwarden/callwarden/pipeline/source/siprecsrc"
	"github.com/callwarden/callwarden/pipeline/source/twiliosrc"
	"github.com/callwarden/callwarden/pipeline/source/whipsrc"
)

// sourcesConfig are the ways in, each with what its package wants to know.
type sourcesConfig struct {
	SIPREC      optional[siprecsrc.Config]      `yaml:"siprec"`
	RTP         optional[rtpsrc.Config]         `yaml:"rtp"`
	AudioSocket optional[audiosocketsrc.Config] `yaml:"audiosocket"`
	AudioHook   optional[audiohooksrc.Config]   `yaml:"audiohook"`
	Twilio      optional[twiliosrc.Config]      `yaml:"twilio"`
	Fork        optional[forksrc.Config]        `yaml:"fork"`
	WHIP        optional[whipsrc.Config]        `yaml:"whip"`
	GRPC        optional[grpcsrc.Config]        `yaml:"grpc"`
}

func defaultSources() sourcesConfig {
	return sourcesConfig{
		SIPREC:      optional[siprecsrc.Config]{Config: siprecsrc.DefaultConfig()},
		RTP:         optional[rtpsrc.Config]{Config: rtpsrc.DefaultConfig()},
		AudioSocket: optional[audiosocketsrc.Config]{Config: audiosocketsrc.DefaultConfig()},
		AudioHook:   optional[audiohooksrc.Config]{Config: audiohooksrc.DefaultConfig()},
		Twilio:      optional[twiliosrc.Config]{Config: twiliosrc.DefaultConfig()},
		Fork:        optional[forksrc.Config]{Config: forksrc.DefaultConfig()},
		WHIP:        optional[whipsrc.Config]{Config: whipsrc.DefaultConfig()},
		GRPC:        optional[grpcsrc.Config]{Config: grpcsrc.DefaultConfig()},
	}
}

// way is a live way in that is linked in. A source that it opens has its
// addresses; whoever does not serve it closes it.
type way struct {
	name     string // key under sources
	enabled  func(*serveConfig) bool
	validate func(*serveConfig) error
	open     func(*serveConfig, *slog.Logger) (source.Source, error)
}

// ways is the whole list; a new one is a folder below pipeline/source, a field
// of sourcesConfig and a line here.
var ways = [...]way{
	{
		siprecsrc.Name,
		func(c *serveConfig) bool { return c.Sources.SIPREC.Enabled },
		func(c *serveConfig) error { return c.Sources.SIPREC.Config.Validate() },
		func(c *serveConfig, log *slog.Logger) (source.Source, error) {
			return siprecsrc.New(c.Sources.SIPREC.Config, log)
		},
	},
	{
		rtpsrc.Name,
		func(c *serveConfig) bool { return c.Sources.RTP.Enabled },
		func(c *serveConfig) error { return c.Sources.RTP.Config.Validate() },
		func(c *serveConfig, log *slog.Logger) (source.Source, error) {
			return rtpsrc.New(c.Sources.RTP.Config, log)
		},
	},
	{
		audiosocketsrc.Name,
		func(c *serveConfig) bool { return c.Sources.AudioSocket.Enabled },
		func(c *serveConfig) error { return c.Sources.AudioSocket.Config.Validate() },
		func(c *serveConfig, log *slog.Logger) (source.Source, error) {
			return audiosocketsrc.New(c.Sources.AudioSocket.Config, log)
		},
	},
	{
		audiohooksrc.Name,
		func(c *serveConfig) bool { return c.Sources.AudioHook.Enabled },
		func(c *serveConfig) error { return c.Sources.AudioHook.Config.Validate() },
		func(c *serveConfig, log *slog.Logger) (source.Source, error) {
			return audiohooksrc.New(c.Sources.AudioHook.Config, log)
		},
	},
	{
		whipsrc.Name,
		func(c *serveConfig) bool { return c.Sources.WHIP.Enabled },
		func(c *serveConfig) error { return c.Sources.WHIP.Config.Validate() },
		func(c *serveConfig, log *slog.Logger) (source.Source, error) {
			return whipsrc.New(c.Sources.WHIP.Config, log)
		},
	},
	{
		grpcsrc.Name,
		func(c *serveConfig) bool { return c.Sources.GRPC.Enabled },
		func(c *serveConfig) error { return c.Sources.GRPC.Config.Validate() },
		func(c *serveConfig, log *slog.Logger) (source.Source, error) {
			return grpcsrc.New(c.Sources.GRPC.Config, log)
		},
	},
	{
		twiliosrc.Name,
		func(c *serveConfig) bool { return c.Sources.Twilio.Enabled },
		func(c *serveConfig) error { return c.Sources.Twilio.Config.Validate() },
		func(c *serveConfig, log *slog.Logger) (source.Source, error) {
			return twiliosrc.New(c.Sources.Twilio.Config, log)
		},
	},
	{
		forksrc.Name,
		func(c *serveConfig) bool { return c.Sources.Fork.Enabled },
		func(c *serveConfig) error { return c.Sources.Fork.Config.Validate() },
		func(c *serveConfig, log *slog.Logger) (source.Source, error) {
			return forksrc.New(c.Sources.Fork.Config, log)
		},
	},
}

func wayNames() []string {
	names := make([]string, 0, len(ways))
	for _, w := range ways {
		names = append(names, w.name)
	}
	return names
}
