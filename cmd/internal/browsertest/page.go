package browsertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// patience is how long a step of a page may take on a machine that has much
// else to do.
const patience = 30 * time.Second

// Browser is a running Chromium. Its pages share nothing but its microphone:
// each has cookies and storage of its own.
type Browser struct {
	t   testing.TB
	ctx context.Context
}

// Start starts the Chromium that cfg describes. It ends with the test, which
// fails where there is none.
func Start(t testing.TB, cfg Config) *Browser {
	t.Helper()
	options, err := Options(cfg)
	if err != nil {
		t.Fatal(err)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	return &Browser{t: t, ctx: ctx}
}

// Page is a tab.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	console  []string
	expected []string
}

// Page opens a tab, empty. What the page writes to the console as a warning or
// an error, and exceptions that nobody catches, fail the test when it ends; see
// Expect. The tab closes with the test.
func (b *Browser) Page(t testing.TB) *Page {
	t.Helper()
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	p := &Page{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	var reading sync.WaitGroup
	reading.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			switch m.Type {
			case chromedp.ConsoleWarning, chromedp.ConsoleError, chromedp.ConsoleException, "assert":
				p.mu.Lock()
				p.console = append(p.console, fmt.Sprintf("%s (%s:%d)", m, m.URL, m.Line+1))
				p.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		p.checkConsole()
		end()
		reading.Wait()
	})
	p.Do(chromedp.EmulateViewport(1280, 900))
	return p
}

// Context is the tab's, for steps of chromedp that have no method here.
func (p *Page) Context() context.Context { return p.ctx }

// Do takes the steps, one after the other.
func (p *Page) Do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.fatal("%v", err)
	}
}

// Open goes to url and waits until it is loaded.
func (p *Page) Open(url string) {
	p.t.Helper()
	p.Do(chromedp.Navigate(url))
}

// Eval is what a JavaScript expression yields in the page; of a promise, what
// it is settled with.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.fatal("%s: %v", expression, err)
	}
	return v
}

// Wait waits until the JavaScript expression is truthy; what is said of it
// where that takes more than most.
func (p *Page) Wait(what string, most time.Duration, expression string) {
	p.t.Helper()
	for deadline := time.Now().Add(most); !Eval[bool](p, "!!("+expression+")"); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.fatal("waited %v in vain for %s: %s", most, what, expression)
		}
	}
}

// WaitText waits until the first element that the CSS selector fits shows text.
func (p *Page) WaitText(most time.Duration, selector, text string) {
	p.t.Helper()
	p.Wait(fmt.Sprintf("%q in %s", text, selector), most,
		fmt.Sprintf("document.querySelector(%q)?.innerText.includes(%q)", selector, text))
}

// Text is what the first element that the CSS selector fits shows.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	return Eval[string](p, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// Click clicks the first element that the CSS selector fits, where a person
// would.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.Do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Type writes text into the field that the CSS selector fits, key by key.
func (p *Page) Type(selector, text string) {
	p.t.Helper()
	p.Do(chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// Upload chooses files in the file field that the CSS selector fits.
func (p *Page) Upload(selector string, files ...string) {
	p.t.Helper()
	p.Do(chromedp.SetUploadFiles(chromedp.CSS(selector), files))
}

// Size is that of the window, in CSS pixels.
func (p *Page) Size(width, height int64) {
	p.t.Helper()
	p.Do(chromedp.EmulateViewport(width, height))
}

// Prefer is how the person has set their system: prefers-color-scheme dark or
// light, and prefers-reduced-motion.
func (p *Page) Prefer(dark, reducedMotion bool) {
	p.t.Helper()
	scheme, motion := "light", "no-preference"
	if dark {
		scheme = "dark"
	}
	if reducedMotion {
		motion = "reduce"
	}
	p.Do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion},
		}})
		return chromedp.Void{}, err
	})
}

// Shot keeps what the whole page looks like in file, a PNG; folders are made.
func (p *Page) Shot(file string) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.ctx, patience)
	defer stop()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Fatalf("screenshot %s: %v", file, err)
	}
	keep(p.t, file, png)
}

// keep writes a picture.
func keep(t testing.TB, file string, png []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Close closes the tab as a person does: the page sees pagehide.
func (p *Page) Close() {
	p.t.Helper()
	p.Do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, page.Close, cdp.Empty{})
		return chromedp.Void{}, err
	})
}

// Expect lets the page complain of what contains text: browsers write failed
// requests to the console, also those that a test means to fail.
func (p *Page) Expect(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, text)
}

// Console is what the page has complained of so far, expected or not.
func (p *Page) Console() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.console...)
}

func (p *Page) checkConsole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.console {
		if !containsAny(line, p.expected) {
			p.t.Errorf("the page complained: %s", line)
		}
	}
}

func containsAny(s string, texts []string) bool {
	for _, text := range texts {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}

// fatal ends the test, with a picture of the page beside it where there is a
// folder for them: CALLWARDEN_SHOTS.
func (p *Page) fatal(format string, args ...any) {
	p.t.Helper()
	for _, line := range p.Console() {
		p.t.Logf("the page complained: %s", line)
	}
	if dir := os.Getenv("CALLWARDEN_SHOTS"); dir != "" {
		ctx, stop := context.WithTimeout(p.ctx, 5*time.Second)
		defer stop()
		if png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100)); err == nil {
			file := filepath.Join(dir, strings.ReplaceAll(p.t.Name(), "/", "-")+"-failed.png")
			if os.MkdirAll(dir, 0o750) == nil && os.WriteFile(file, png, 0o600) == nil {
				p.t.Logf("what the page looked like: %s", file)
			}
		}
	}
	p.t.Fatalf(format, args...)
}

// Script is a step that runs JavaScript, for what has no result.
func Script(expression string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](expression)
}
