package vosk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// modelFolder is what must be known of a model before libvosk sees it.
type modelFolder struct {
	rateHz  int
	dynamic bool // takes phrase lists
}

// readModelFolder checks that a folder has the files that libvosk opens
// without asking, and that its small files are well-formed where the library
// would end the process.
func readModelFolder(dir string) (modelFolder, error) {
	if info, err := os.Stat(dir); dir == "" || err != nil || !info.IsDir() {
		return modelFolder{}, errors.New("is no folder")
	}
	has := func(names ...string) bool {
		for _, name := range names {
			info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
			if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
				return false
			}
		}
		return true
	}
	for _, name := range []string{"am/final.mdl", "conf/mfcc.conf", "conf/model.conf"} {
		if !has(name) {
			return modelFolder{}, fmt.Errorf("has no %s", name)
		}
	}
	folder := modelFolder{rateHz: 16000, dynamic: has("graph/HCLr.fst", "graph/Gr.fst", "graph/words.txt", "graph/disambig_tid.int")}
	if !folder.dynamic && !has("graph/HCLG.fst") {
		return modelFolder{}, errors.New("has neither graph/HCLG.fst nor graph/HCLr.fst, Gr.fst, words.txt and disambig_tid.int")
	}
	confs := []string{"conf/mfcc.conf", "conf/model.conf"}
	if has("ivector/final.ie") {
		if !has("ivector/final.dubm", "ivector/final.mat", "ivector/global_cmvn.stats", "ivector/splice.conf", "ivector/online_cmvn.conf") {
			return modelFolder{}, errors.New("has an incomplete ivector folder")
		}
		confs = append(confs, "ivector/splice.conf", "ivector/online_cmvn.conf")
	}
	for _, name := range confs {
		settings, err := readConf(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return modelFolder{}, fmt.Errorf("%s: %w", name, err)
		}
		value, ok := settings["sample-frequency"]
		if !ok || name != "conf/mfcc.conf" {
			continue
		}
		rate, err := strconv.ParseFloat(value, 64)
		if err != nil || !(rate >= 4000 && rate <= 96000) || rate != float64(int(rate)) {
			return modelFolder{}, fmt.Errorf("%s: sample-frequency %q is none that can be fed", name, value)
		}
		folder.rateHz = int(rate)
	}
	return folder, nil
}

// setting is a line of a Kaldi configuration file. The names that only a
// command line has would print help and exit.
var setting = regexp.MustCompile(`^--([a-z][a-z0-9._-]*)=(\S+)$`)

func readConf(name string) (map[string]string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		m := setting.FindStringSubmatch(line)
		if m == nil || m[1] == "help" || m[1] == "config" || m[1] == "print-args" {
			return nil, fmt.Errorf("line %d is no setting: %.40q", n, line)
		}
		settings[m[1]] = m[2]
	}
	return settings, lines.Err()
}
