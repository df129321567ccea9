// Talktrain trains the opinion that package talk has of a call, and shows what
// it is worth on calls whose authors it has not read: the calls of one author,
// known by the letters that their ids begin with, are judged by a model of all
// the others.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// call is a line of a manifest.
type call struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	First *int   `json:"first_actionable_turn"`
	Turns []struct {
		Role string `json:"role"`
		Text string `json:"text"`
	} `json:"turns"`
}

// author is the letters that the id begins with.
func (c call) author() string {
	return c.ID[:len(c.ID)-len(strings.TrimLeft(c.ID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))]
}

func main() {
	out := flag.String("out", "", "write the trained model to this file")
	calibrate := flag.Bool("calibrate", false, "judge each author's calls by a model of the others', with several weights of the opinion")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: talktrain [--out FILE] [--calibrate] MANIFEST.jsonl...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(flag.Args(), *out, *calibrate); err != nil {
		fmt.Fprintln(os.Stderr, "talktrain:", err)
		os.Exit(1)
	}
}

func run(manifests []string, out string, calibrate bool) error {
	if len(manifests) == 0 {
		return errors.New("name a manifest of labelled calls with turns")
	}
	var calls []call
	for _, name := range manifests {
		more, err := load(name)
		if err != nil {
			return err
		}
		calls = append(calls, more...)
	}
	if calibrate {
		if err := calibration(calls, os.Stdout); err != nil {
			return err
		}
	}
	if out == "" {
		return nil
	}
	m := train(calls)
	var b bytes.Buffer
	if err := m.write(&b, record(calls)); err != nil {
		return err
	}
	return os.WriteFile(out, b.Bytes(), 0o644)
}

// record says what a model was trained on.
func record(calls []call) []string {
	scams := 0
	for _, c := range calls {
		if c.Label == "scam" {
			scams++
		}
	}
	return []string{
		"What words weigh in the opinion of a call: see package talk. Made by: make train-talk",
		fmt.Sprintf("Trained on %d scripted calls of testdata/eval/development.jsonl, %d of them frauds.", len(calls), scams),
	}
}

// load reads the calls of a manifest that have turns and are frauds or honest.
func load(name string) ([]call, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var calls []call
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if len(c.Turns) > 0 && (c.Label == "scam" || c.Label == "benign") {
			calls = append(calls, c)
		}
	}
	return calls, lines.Err()
}
