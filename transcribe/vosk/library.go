package vosk

import (
	"errors"
	"fmt"

	"github.com/ebitengine/purego"
)

// library is the part of libvosk that is used. Pointers are C's: a model or
// recogniser is used by one goroutine at a time, freed once, and never leaves
// this package.
type library struct {
	setLogLevel func(level int32)

	modelNew  func(path string) uintptr
	modelFree func(model uintptr)
	findWord  func(model uintptr, word string) int32

	recognizerNew    func(model uintptr, rateHz float32) uintptr
	recognizerNewGrm func(model uintptr, rateHz float32, grammar string) uintptr
	recognizerFree   func(rec uintptr)
	setWords         func(rec uintptr, on int32)
	// acceptWaveform returns 1 at an endpoint, 0 within an utterance, and a
	// negative number where C++ threw.
	acceptWaveform func(rec uintptr, pcm *int16, n int32) int32
	result         func(rec uintptr) string
	partialResult  func(rec uintptr) string
	finalResult    func(rec uintptr) string

	// setPartialWords is nil in libraries before 0.3.32.
	setPartialWords func(rec uintptr, on int32)
	// mallocTrim is nil where the C library has none.
	mallocTrim func(pad uintptr) int32
}

// openLibrary loads the shared object and looks its functions up. It is never
// unloaded: it has started threads of its own by then.
func openLibrary(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	var lib library
	required := []struct {
		fn   any
		name string
	}{
		{&lib.setLogLevel, "vosk_set_log_level"},
		{&lib.modelNew, "vosk_model_new"},
		{&lib.modelFree, "vosk_model_free"},
		{&lib.findWord, "vosk_model_find_word"},
		{&lib.recognizerNew, "vosk_recognizer_new"},
		{&lib.recognizerNewGrm, "vosk_recognizer_new_grm"},
		{&lib.recognizerFree, "vosk_recognizer_free"},
		{&lib.setWords, "vosk_recognizer_set_words"},
		{&lib.acceptWaveform, "vosk_recognizer_accept_waveform_s"},
		{&lib.result, "vosk_recognizer_result"},
		{&lib.partialResult, "vosk_recognizer_partial_result"},
		{&lib.finalResult, "vosk_recognizer_final_result"},
	}
	for _, r := range required {
		if !bind(r.fn, handle, r.name) {
			purego.Dlclose(handle)
			return nil, fmt.Errorf("loading %s: it has no %s: is it libvosk?", path, r.name)
		}
	}
	bind(&lib.setPartialWords, handle, "vosk_recognizer_set_partial_words")
	// libc is loaded already; asking through our handle finds it among the
	// library's own dependencies, whatever the system calls it.
	bind(&lib.mallocTrim, handle, "malloc_trim")
	return &lib, nil
}

// bind makes the function pointer fn call the named symbol, if there is one.
func bind(fn any, handle uintptr, name string) bool {
	symbol, err := purego.Dlsym(handle, name)
	if err != nil || symbol == 0 {
		return false
	}
	purego.RegisterFunc(fn, symbol)
	return true
}

// errNative is what the library did where it should not have: the session is
// dead, the process is not.
var errNative = errors.New("libvosk gave up")
