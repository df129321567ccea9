package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/cmd/internal/config"
	"github.com/callwarden/callwarden/cmd/internal/desk"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/admit"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink/jsonsink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	"github.com/callwarden/callwarden/pipeline/sink/termsink"
	"github.com/callwarden/callwarden/pipeline/sink/webhooksink"
	"github.com/callwarden/callwarden/transcribe/remote"
	"github.com/callwarden/callwarden/transcribe/route"
	"github.com/callwarden/callwarden/transcribe/supervised"
)

// serveConfig is callwarden.yml. Its keys, defaults and their meaning are in
// the file of that name at the root of the repository, which a test compares.
type serveConfig struct {
	Log         logConfig             `yaml:"log"`
	HTTP        httpConfig            `yaml:"http"`
	Sources     sourcesConfig         `yaml:"sources"`
	Admit       admit.Config          `yaml:"admit"`
	Transcriber transcriberConfig     `yaml:"transcriber"`
	Listen      listenConfig          `yaml:"listen"`
	Judge       judgeConfig           `yaml:"judge"`
	Risk        risk.Config           `yaml:"risk"`
	Calls       pipeline.Config       `yaml:"calls"`
	Back        backConfig            `yaml:"back"`
	Sinks       sinksConfig           `yaml:"sinks"`
	Desk        optional[desk.Config] `yaml:"desk"`
	Drain       drainConfig           `yaml:"drain"`
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

type httpConfig struct {
	Listen   string `yaml:"listen"`
	Profiles bool   `yaml:"profiles"`
	Try      bool   `yaml:"try"`
}

// optional is a section that can be switched off whole.
type optional[C any] struct {
	Enabled bool `yaml:"enabled"`
	Config  C    `yaml:",inline"`
}

type transcriberConfig struct {
	Mode       string            `yaml:"mode"`
	Backend    string            `yaml:"backend"`
	Model      string            `yaml:"model"`
	Library    string            `yaml:"library"`
	Supervised supervised.Config `yaml:"supervised"`
	Remote     remote.Config     `yaml:"remote"`
	Backends   namedBackends     `yaml:"backends"`
	Routing    route.Config      `yaml:"routing"`
}

// Ways of running the transcriber.
const (
	inProcess       = "inprocess"
	inOwnProcess    = "supervised"
	onOtherMachines = "remote"
)

type listenConfig struct {
	Mode     string `yaml:"mode"`
	Language string `yaml:"language"`
}

type judgeConfig struct {
	Packs   string `yaml:"packs"`
	Country string `yaml:"country"`
}

type sinksConfig struct {
	NATS     natsConfig                   `yaml:"nats"`
	JSON     jsonConfig                   `yaml:"json"`
	Terminal optional[termsink.Config]    `yaml:"terminal"`
	Reports  optional[reportsConfig]      `yaml:"reports"`
	Webhook  optional[webhooksink.Config] `yaml:"webhook"`
}

type natsConfig struct {
	Enabled  bool                  `yaml:"enabled"`
	Config   natssink.Config       `yaml:",inline"`
	Commands bool                  `yaml:"commands"`
	Embedded natssink.ServerConfig `yaml:"embedded"`
}

type jsonConfig struct {
	Enabled bool            `yaml:"enabled"`
	File    string          `yaml:"file"`
	Config  jsonsink.Config `yaml:",inline"`
}

type reportsConfig struct {
	Dir string `yaml:"dir"`
}

type drainConfig struct {
	Grace   time.Duration `yaml:"grace"`
	Deliver time.Duration `yaml:"deliver"`
}

func defaultServeConfig() serveConfig {
	nats := natsConfig{Enabled: true, Commands: true, Config: natssink.DefaultConfig(), Embedded: natssink.DefaultServerConfig()}
	nats.Embedded.StoreDir = "callwarden-events"
	nats.Embedded.Listen = "127.0.0.1:4222"
	nats.Config.Levels = true // the desk draws them
	lines := termsink.DefaultConfig()
	lines.Calls = true
	return serveConfig{
		Log:     logConfig{Level: "info", Format: "text"},
		HTTP:    httpConfig{Listen: "127.0.0.1:8080", Try: true},
		Sources: defaultSources(),
		Admit:   admit.DefaultConfig(),
		Transcriber: transcriberConfig{
			Mode: inOwnProcess, Backend: backends[0].name, Model: models.DefaultModel, Library: models.DefaultLibrary,
			Supervised: supervised.DefaultConfig(), Remote: remote.DefaultConfig(), Routing: route.DefaultConfig(),
		},
		Listen: listenConfig{Mode: listen.Screening},
		Judge:  judgeConfig{Country: "US"},
		Risk:   risk.DefaultConfig(),
		Calls:  pipeline.DefaultConfig(),
		Back:   defaultBack(),
		Sinks: sinksConfig{
			NATS:     nats,
			JSON:     jsonConfig{File: "-", Config: jsonsink.DefaultConfig()},
			Terminal: optional[termsink.Config]{Config: lines},
			Reports:  optional[reportsConfig]{Config: reportsConfig{Dir: "callwarden-reports"}},
			Webhook:  optional[webhooksink.Config]{Config: webhooksink.DefaultConfig()},
		},
		Desk:  optional[desk.Config]{Enabled: true, Config: desk.DefaultConfig()},
		Drain: drainConfig{Grace: 30 * time.Second, Deliver: 30 * time.Second},
	}
}

// loadServeConfig reads the file at path and says everything that is wrong
// with it. It opens nothing else.
func loadServeConfig(path string) (serveConfig, error) {
	cfg := defaultServeConfig()
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return cfg, usagef("there is no %s; name one with -c FILE, or begin with the commented one that comes with callwarden", path)
	}
	if err != nil {
		return cfg, usagef("reading the configuration: %w", err)
	}
	file := config.Read(path, data, &cfg)
	cfg.check(file)
	if err := file.Err(); err != nil {
		return cfg, &usageError{err}
	}
	return cfg, nil
}

// check adds what is wrong with the values to file.
func (c *serveConfig) check(file *config.File) {
	file.Check("log", c.Log.Validate())
	file.Check("http", c.HTTP.Validate())
	enabled := 0
	for _, w := range ways {
		if w.enabled(c) {
			enabled++
			file.Check("sources."+w.name, w.validate(c))
		}
	}
	if enabled == 0 {
		file.Add("sources", "none is enabled: no call would ever come; enable one of "+strings.Join(wayNames(), ", "))
	}
	file.Check("admit", c.Admit.Validate())
	file.Check("transcriber", c.Transcriber.Validate())
	file.Check("listen", c.Listen.Validate())
	file.Check("judge", c.Judge.Validate())
	// Its keys begin with the section's own name.
	file.Check("", c.Risk.Validate())
	file.Check("calls", c.Calls.Validate())
	file.Check("back", c.Back.Validate())
	c.Sinks.check(file)
	if c.Desk.Enabled {
		file.Check("desk", c.Desk.Config.Validate())
	}
	file.Check("drain", c.Drain.Validate())
}

func oneOf(key, value string, values ...string) error {
	if slices.Contains(values, value) {
		return nil
	}
	return fmt.Errorf("%s: %q must be one of %s", key, value, strings.Join(values, ", "))
}

// Validate says which key is wrong and what it must be.
func (c logConfig) Validate() error {
	return errors.Join(
		oneOf("level", c.Level, "debug", "info", "warn", "error"),
		oneOf("format", c.Format, "text", "json"),
	)
}

// Validate says which key is wrong and what it must be.
func (c httpConfig) Validate() error {
	if c.Listen == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %q must be an address and port, such as 127.0.0.1:8080, or empty", c.Listen)
	}
	return nil
}

// Validate says which key is wrong and what it must be.
func (c transcriberConfig) Validate() error {
	errs := []error{oneOf("mode", c.Mode, inProcess, inOwnProcess, onOtherMachines), c.Backends.Validate()}
	below := func(key string, err error) {
		for _, err := range eachError(err) {
			errs = append(errs, fmt.Errorf("%s.%w", key, err))
		}
	}
	switch c.Mode {
	case inProcess:
		if c.Backend == routeBackend {
			errs = append(errs, c.Backends.check(c.Routing))
		} else if _, own := c.Backends[c.Backend]; !own {
			errs = append(errs, oneOf("backend", c.Backend, liveBackends()...))
		}
	case inOwnProcess:
		errs = append(errs, oneOf("backend", c.Backend, ownProcessBackends()...))
		own := c.Supervised
		own.Command = []string{"callwarden"} // which is set when it is opened
		below("supervised", own.Validate())
	case onOtherMachines:
		below("remote", c.Remote.Validate())
	}
	return errors.Join(errs...)
}

// liveBackends are those that can hear a call that nobody has written down.
func liveBackends() []string {
	return slices.DeleteFunc(backendNames(), func(name string) bool { return name == scriptBackend })
}

// ownProcessBackends are those that make sense in a process of their own.
func ownProcessBackends() []string {
	return slices.DeleteFunc(liveBackends(), func(name string) bool {
		return name == inOwnProcess || name == onOtherMachines || name == routeBackend
	})
}

// Validate says which key is wrong and what it must be.
func (c listenConfig) Validate() error {
	return oneOf("mode", c.Mode, listen.Full, listen.Screening)
}

// Validate says which key is wrong and what it must be.
func (c judgeConfig) Validate() error {
	return oneOf("country", c.Country, "US", "GB", "IN")
}

// Validate says which key is wrong and what it must be.
func (c drainConfig) Validate() error {
	var errs []error
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"grace", c.Grace}, {"deliver", c.Deliver}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s: %v must be at least 0s", d.key, d.value))
		}
	}
	return errors.Join(errs...)
}

func (c *sinksConfig) check(file *config.File) {
	if c.NATS.Enabled {
		file.Check("sinks.nats", c.NATS.sink(&natssink.Server{}).Validate())
		if c.NATS.Config.URL == "" {
			file.Check("sinks.nats.embedded", c.NATS.Embedded.Validate())
		}
	}
	if c.JSON.Enabled && c.JSON.File == "" {
		file.Add("sinks.json.file", `"" must be the name of a file, or - for stdout`)
	}
	if c.Reports.Enabled && c.Reports.Config.Dir == "" {
		file.Add("sinks.reports.dir", `"" must be the name of a folder`)
	}
	if c.Terminal.Enabled && c.Terminal.Config.Width < 0 {
		file.Add("sinks.terminal.width", fmt.Sprintf("%d must be at least 0", c.Terminal.Config.Width))
	}
	if c.Terminal.Enabled && c.JSON.Enabled && c.JSON.File == "-" {
		file.Add("sinks.json.file", `"-" must be a file where the terminal has stdout`)
	}
	if c.Webhook.Enabled {
		file.Check("sinks.webhook", c.Webhook.Config.Validate())
	}
	if !c.NATS.Enabled && !c.JSON.Enabled && !c.Reports.Enabled && !c.Terminal.Enabled && !c.Webhook.Enabled {
		file.Add("sinks", "none is enabled: nobody would hear of anything")
	}
}

// sink is the configuration of the NATS sink, with embedded in place of a URL.
func (c natsConfig) sink(embedded *natssink.Server) natssink.Config {
	cfg := c.Config
	if cfg.URL == "" {
		cfg.Server = embedded
	}
	return cfg
}

func newCheck(a *app) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate a configuration without opening anything",
		Long: `Reads a configuration as serve does and says everything that is wrong with it,
with the line, the value, the rule and what to type instead. Nothing is opened:
no address, no model, no server, and none of the files that it names but the
recordings below back, which are read: one that cannot be spoken is told here.`,
		Example: `  callwarden check -c callwarden.yml`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadServeConfig(path)
			if err != nil {
				return err
			}
			var names []string
			for _, w := range ways {
				if w.enabled(&cfg) {
					names = append(names, w.name)
				}
			}
			fmt.Fprintf(a.out, "%s is valid: calls come in by %s\n", path, strings.Join(names, ", "))
			return nil
		},
	}
	addConfigFlag(cmd, &path)
	return cmd
}

func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "callwarden.yml", "configuration file")
	_ = cmd.MarkFlagFilename("config", "yml", "yaml")
}
