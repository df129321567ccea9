package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/callwarden/callwarden/transcribe/openai"
	"github.com/callwarden/callwarden/transcribe/riva"
	"github.com/callwarden/callwarden/transcribe/sherpa"
	"github.com/callwarden/callwarden/transcribe/voskserver"
)

// docs/recognisers.md shows every key of these backends with its default.
func TestRecognisersAreDocumentedAsTheyAre(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "recognisers.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, block := range regexp.MustCompile("(?s)```yaml (\\w+)\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		shown[block[1]] = block[2]
	}
	check := func(name string, got, want any) {
		text := shown[name]
		delete(shown, name)
		dec := yaml.NewDecoder(strings.NewReader(text))
		dec.KnownFields(true)
		if err := dec.Decode(got); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if g, w := fmt.Sprintf("%+v", reflect.ValueOf(got).Elem().Interface()), fmt.Sprintf("%+v", want); g != w {
			t.Errorf("%s: the page says\n%s\nthe code\n%s", name, g, w)
		}
		for i, typ := 0, reflect.TypeOf(want); i < typ.NumField(); i++ {
			if key := typ.Field(i).Tag.Get("yaml"); !regexp.MustCompile("(?m)^" + key + ":.* # ").MatchString(text) {
				t.Errorf("%s: the page does not explain %q", name, key)
			}
		}
	}
	check("voskserver", new(voskserver.Config), voskserver.DefaultConfig())
	check("riva", new(riva.Config), riva.DefaultConfig())
	check("openai", new(openai.Config), openai.DefaultConfig())
	check("sherpa", new(sherpa.Config), sherpa.DefaultConfig())
	if len(shown) > 0 {
		t.Errorf("blocks of nothing: %v", shown)
	}
}
