//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// python is Debian's, which has Debian's gRPC.
const python = "/usr/bin/python3"

// The Python example, by the modules that others generate, is told what replay
// finds.
func TestPythonExampleGivesTheFindingsOfReplay(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	modules := t.TempDir()
	generate := exec.Command("protoc", "-I", "proto", "--python_out="+modules, "--grpc_python_out="+modules,
		"--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin",
		"callwarden/v1/events.proto", "callwarden/v1/transcribe.proto", "callwarden/v1/call.proto")
	generate.Dir = root
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	w := startWarden(t, 8380, 4522, `
sources: {grpc: {enabled: true, listen: "127.0.0.1:8382"}}
listen: {mode: full}
`)
	file, rec := call(t, "fraud-code")
	ctx, cancel := context.WithTimeout(t.Context(), rec.Length()+time.Minute)
	defer cancel()
	stream := exec.CommandContext(ctx, python, filepath.Join(root, "docs/examples/python/stream.py"), file, "--to", "127.0.0.1:8382", "--id", "from-python")
	stream.Env = append(os.Environ(), "PYTHONPATH="+modules)
	out, err := stream.CombinedOutput()
	if err != nil {
		t.Fatalf("stream.py: %v\n%s", err, out)
	}
	for _, want := range []string{"call from-python of tenant default is listened to", "\nCRITICAL: ", "found otp_readback: ", "\nended: end of audio, highest level CRITICAL"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("stream.py does not say %q:\n%s", want, out)
		}
	}
	id, events := w.nextEnd(time.Minute)
	if got, want := findings(events), findings(replayed(t, file, "--listen", "full")); id != "from-python" || !slices.Equal(got, want) {
		t.Errorf("call %s:\n%s\nreplay:\n%s", id, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
