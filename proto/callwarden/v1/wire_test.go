package callwardenv1_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// breaking asks buf what of the .proto files below dir breaks the committed
// image.
func breaking(t *testing.T, dir string) (ok bool, why string) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "tool", "-modfile="+filepath.Join(root, "tools.mod"), "buf", "breaking", dir,
		"--config", filepath.Join(root, "buf.yaml"), "--against", filepath.Join(root, "proto", "released.binpb"))
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}

// copied is a module of the .proto files, with old replaced by new.
func copied(t *testing.T, old, replacement string) string {
	t.Helper()
	dir := t.TempDir()
	to := filepath.Join(dir, "proto", "callwarden", "v1")
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.proto")
	if err != nil || len(files) == 0 {
		t.Fatalf("no .proto files: %v", err)
	}
	replaced := false
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if old != "" && bytes.Contains(data, []byte(old)) {
			replaced = true
			data = bytes.ReplaceAll(data, []byte(old), []byte(replacement))
		}
		if err := os.WriteFile(filepath.Join(to, f), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old != "" && !replaced {
		t.Fatalf("no .proto file has %q", old)
	}
	return dir
}

func TestNothingOnTheWireBreaksWhatWasReleased(t *testing.T) {
	if ok, why := breaking(t, copied(t, "", "")); !ok {
		t.Errorf("callers of what was released would break:\n%s", why)
	}
}

func TestBreakingTheWireIsNoticed(t *testing.T) {
	for name, c := range map[string]struct{ old, replacement, says string }{
		"a field is gone":        {"  bool thrifty = 9;\n", "", "thrifty"},
		"a field has a new type": {"int64 utterance = 2;", "string utterance = 2;", "utterance"},
		"a method is gone":       {"  rpc LookUpWords(LookUpWordsRequest) returns (LookUpWordsResponse);\n", "", "LookUpWords"},
	} {
		t.Run(name, func(t *testing.T) {
			if ok, why := breaking(t, copied(t, c.old, c.replacement)); ok || !strings.Contains(why, c.says) {
				t.Errorf("breaks nothing (%v), or not %q:\n%s", ok, c.says, why)
			}
		})
	}
}
