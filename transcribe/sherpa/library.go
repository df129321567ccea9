package sherpa

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is the part of libsherpa-onnx-c-api that is used. Pointers are C's:
// a stream is used by one goroutine at a time, freed once, and never leaves
// this package; a recogniser may be used by many at once.
type library struct {
	version func() string

	newRecogniser     func(cfg unsafe.Pointer) uintptr
	destroyRecogniser func(rec uintptr)
	newStream         func(rec uintptr) uintptr
	destroyStream     func(stream uintptr)

	accept        func(stream uintptr, rateHz int32, samples *float32, n int32)
	inputFinished func(stream uintptr)
	ready         func(rec, stream uintptr) int32
	decode        func(rec, stream uintptr)
	endpoint      func(rec, stream uintptr) int32
	reset         func(rec, stream uintptr)
	result        func(rec, stream uintptr) *byte // JSON, to be destroyed
	destroyResult func(json *byte)

	spot spotterLibrary
}

// knownVersion is what the structures below are from. They only ever grew at
// their ends so far, so others of the same first two numbers are taken.
const knownVersion = "1.13."

// openLibrary loads the shared object at path, and before it the ONNX Runtime
// that it needs: by then it is in the process, wherever it lies. Neither is
// ever unloaded.
func openLibrary(path, onnxRuntime string) (*library, error) {
	if onnxRuntime != "" {
		if _, err := purego.Dlopen(onnxRuntime, purego.RTLD_NOW|purego.RTLD_LOCAL); err != nil {
			return nil, fmt.Errorf("loading %s: %w", onnxRuntime, err)
		}
	}
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	var lib library
	for _, f := range []struct {
		fn   any
		name string
	}{
		{&lib.version, "SherpaOnnxGetVersionStr"},
		{&lib.newRecogniser, "SherpaOnnxCreateOnlineRecognizer"},
		{&lib.destroyRecogniser, "SherpaOnnxDestroyOnlineRecognizer"},
		{&lib.newStream, "SherpaOnnxCreateOnlineStream"},
		{&lib.destroyStream, "SherpaOnnxDestroyOnlineStream"},
		{&lib.accept, "SherpaOnnxOnlineStreamAcceptWaveform"},
		{&lib.inputFinished, "SherpaOnnxOnlineStreamInputFinished"},
		{&lib.ready, "SherpaOnnxIsOnlineStreamReady"},
		{&lib.decode, "SherpaOnnxDecodeOnlineStream"},
		{&lib.endpoint, "SherpaOnnxOnlineStreamIsEndpoint"},
		{&lib.reset, "SherpaOnnxOnlineStreamReset"},
		{&lib.result, "SherpaOnnxGetOnlineStreamResultAsJson"},
		{&lib.destroyResult, "SherpaOnnxDestroyOnlineStreamResultJson"},
		{&lib.spot.create, "SherpaOnnxCreateKeywordSpotter"},
		{&lib.spot.destroy, "SherpaOnnxDestroyKeywordSpotter"},
		{&lib.spot.newStream, "SherpaOnnxCreateKeywordStreamWithKeywords"},
		{&lib.spot.ready, "SherpaOnnxIsKeywordStreamReady"},
		{&lib.spot.decode, "SherpaOnnxDecodeKeywordStream"},
		{&lib.spot.reset, "SherpaOnnxResetKeywordStream"},
		{&lib.spot.result, "SherpaOnnxGetKeywordResultAsJson"},
		{&lib.spot.destroyResult, "SherpaOnnxFreeKeywordResultJson"},
	} {
		symbol, err := purego.Dlsym(handle, f.name)
		if err != nil || symbol == 0 {
			return nil, fmt.Errorf("loading %s: it has no %s: is it the C library of sherpa-onnx?", path, f.name)
		}
		purego.RegisterFunc(f.fn, symbol)
	}
	if v := lib.version(); !strings.HasPrefix(v, knownVersion) {
		return nil, fmt.Errorf("loading %s: it is version %q, and its structures are known for %sx only", path, v, knownVersion)
	}
	return &lib, nil
}

// onlineModel is SherpaOnnxOnlineModelConfig of c-api.h, field by field.
type onlineModel struct {
	encoder, decoder, joiner            *byte    // transducer
	_                                   [2]*byte // paraformer
	_                                   *byte    // zipformer2_ctc
	tokens                              *byte
	threads                             int32
	provider                            *byte
	debug                               int32
	modelType, modelingUnit, vocabulary *byte
	_                                   *byte // tokens_buf
	_                                   int32
	_                                   *byte // nemo_ctc
	_                                   *byte // t_one_ctc
}

// onlineRecogniser is SherpaOnnxOnlineRecognizerConfig of c-api.h.
type onlineRecogniser struct {
	rateHz, features int32
	model            onlineModel
	decoding         *byte
	paths            int32
	endpoints        int32
	silenceAlone     float32 // rule 1: seconds of silence where nothing was said
	silenceAfter     float32 // rule 2: and where something was
	longest          float32 // rule 3: of an utterance
	_                *byte   // hotwords_file
	_                float32
	_                *byte // ctc_fst_decoder_config
	_                int32
	_, _             *byte // rule_fsts, rule_fars
	_                float32
	_                *byte // hotwords_buf
	_                int32
	_                [3]*byte // hr
	// What later versions add is zero: off.
	_ [512]byte
}

var errNative = errors.New("the library gave no recogniser")

// recogniser makes one of a model whose files have been looked at.
func (l *library) recogniser(f *folder, cfg Config) (uintptr, error) {
	var c onlineRecogniser
	keep := c.model.fill(f)
	greedy := []byte("greedy_search\x00")
	c.rateHz, c.features = int32(cfg.RateHz), int32(cfg.Features)
	c.decoding, c.paths = &greedy[0], 4
	c.endpoints = 1
	c.silenceAlone = float32(cfg.Silence.Seconds() * 2)
	c.silenceAfter = float32(cfg.Silence.Seconds())
	c.longest = float32(cfg.MaxUtterance.Seconds())
	rec := l.newRecogniser(unsafe.Pointer(&c))
	runtime.KeepAlive(keep)
	runtime.KeepAlive(greedy)
	runtime.KeepAlive(&c)
	if rec == 0 {
		return 0, errNative
	}
	return rec, nil
}

// fill names the model's files. The strings must be kept alive until the
// library has read them.
func (m *onlineModel) fill(f *folder) (keep [][]byte) {
	text := func(s string) *byte {
		b := append([]byte(s), 0)
		keep = append(keep, b)
		return &b[0]
	}
	m.encoder, m.decoder, m.joiner = text(f.encoder), text(f.decoder), text(f.joiner)
	m.tokens, m.threads, m.provider = text(f.tokens), 1, text("cpu")
	m.modelType = text(f.modelType)
	return keep
}

// copyText copies a string of the library's and gives it back.
func copyText(p *byte, destroy func(*byte)) []byte {
	if p == nil {
		return nil
	}
	defer destroy(p)
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return append([]byte(nil), unsafe.Slice(p, n)...)
}
