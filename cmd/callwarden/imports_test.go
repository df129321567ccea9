package main

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/callwarden/callwarden/"

// mayImport is the one way through the house: what each package may import of
// ours. A pattern that ends in /* stands for every package below it. The most
// specific pattern counts.
var mayImport = map[string]string{
	"proto/*":                    "",
	"proto/callwarden/call*":     "proto/callwarden/v1", // callclient
	"models":                     "",
	"transcribe/audio":           "transcribe/audio/extend",
	"transcribe/audio/extend":    "",
	"transcribe":                 "transcribe/audio",
	"transcribe/*":               "transcribe transcribe/audio transcribe/peer transcribe/stream models proto/*",
	"transcribe/voskserver":      "transcribe transcribe/audio transcribe/peer transcribe/stream transcribe/voskserver/voskpb",
	"transcribe/riva":            "transcribe transcribe/audio transcribe/peer transcribe/stream transcribe/riva/rivapb",
	"transcribe/transcribetest":  "transcribe transcribe/audio",
	"detectors":                  "transcribe transcribe/audio",
	"detectors/phrase":           "detectors detectors/spoken transcribe",
	"detectors/spoken":           "",
	"detectors/tactics":          "detectors detectors/phrase",
	"detectors/dialogue":         "detectors detectors/phrase detectors/screen detectors/spoken detectors/tactics transcribe transcribe/audio",
	"detectors/screen":           "detectors detectors/phrase detectors/spoken transcribe transcribe/audio",
	"detectors/identity":         "detectors transcribe/audio",
	"detectors/talk":             "detectors detectors/phrase transcribe",
	"detectors/risk":             "detectors transcribe/audio",
	"transcribe/certs":           "",
	"transcribe/certs/certstest": "transcribe/certs",
	"transcribe/service":         "transcribe transcribe/audio transcribe/certs proto/*",
	"transcribe/remote":          "transcribe transcribe/audio transcribe/certs proto/*",
	"transcribe/supervised":      "transcribe transcribe/audio transcribe/remote",
	"pipeline/source":            "pipeline/sink transcribe/audio", // events, for peers that are told them
	"pipeline/back":              "pipeline/sink pipeline/source detectors/risk proto/* transcribe/audio",
	"pipeline/source/media":      "pipeline/source transcribe/audio",
	"pipeline/source/announce":   "transcribe/audio",
	"pipeline/source/websock":    "pipeline/source pipeline/source/announce pipeline/source/say transcribe/audio",
	"pipeline/source/say":        "pipeline/source transcribe/audio",
	"pipeline/source/join":       "transcribe/audio",
	"pipeline/source/sdp":        "pipeline/source/media transcribe/audio",
	"pipeline/source/grpcsrc":    "pipeline/sink pipeline/sink/fansink pipeline/source pipeline/source/announce pipeline/source/say detectors/spoken proto/* transcribe/audio transcribe/certs", // it shows events and takes notes
	"pipeline/source/*":          "pipeline/sink proto/* pipeline/source pipeline/source/announce pipeline/source/join pipeline/source/media pipeline/source/say pipeline/source/sdp pipeline/source/sipmeta pipeline/source/sipstack pipeline/source/websock transcribe/audio",
	"pipeline/admit":             "pipeline/source",
	"pipeline/sink":              "detectors/risk proto/*",
	"pipeline/sink/*":            "pipeline/sink pipeline/source detectors/risk proto/* transcribe/audio",
	"pipeline/listen":            "transcribe transcribe/audio detectors detectors/spoken",
	"pipeline":                   "pipeline/listen pipeline/sink pipeline/source detectors detectors/risk detectors/spoken transcribe transcribe/audio proto/*",
	"cmd/*":                      "*",
}

func TestImportsPointOnlyBackwards(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		allowed, ok := ruleOf(pkg)
		if !ok {
			t.Errorf("package %s has no line in mayImport: where does it stand in the house?", pkg)
			continue
		}
		for _, imported := range fields[1:] {
			ours, isOurs := strings.CutPrefix(imported, module)
			if !isOurs {
				continue
			}
			seen++
			if !matchesAny(ours, allowed) {
				t.Errorf("%s imports %s; it may import: %s", pkg, ours, allowed)
			}
		}
	}
	if seen < 20 {
		t.Fatalf("looked at %d imports of ours: is the module path right?", seen)
	}
}

func ruleOf(pkg string) (allowed string, ok bool) {
	if allowed, ok = mayImport[pkg]; ok {
		return allowed, true
	}
	longest := -1
	for pattern, a := range mayImport {
		if matches(pkg, pattern) && len(pattern) > longest {
			longest, allowed, ok = len(pattern), a, true
		}
	}
	return allowed, ok
}

func matchesAny(pkg, patterns string) bool {
	for _, p := range strings.Fields(patterns) {
		if matches(pkg, p) {
			return true
		}
	}
	return false
}

func matches(pkg, pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(pkg, prefix)
	}
	return pkg == pattern
}
