package silero

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// apiVersion is the version of ONNX Runtime's C interface that is asked for:
// the places below are the same in it and in all later ones.
const apiVersion = 17

// Places of functions in OrtApi (onnxruntime_c_api.h, where they only ever
// grow at the end).
const (
	ortGetErrorMessage                   = 2
	ortCreateEnv                         = 3
	ortCreateSessionFromArray            = 8
	ortRun                               = 9
	ortCreateSessionOptions              = 10
	ortSetSessionGraphOptimizationLevel  = 23
	ortSetIntraOpNumThreads              = 24
	ortSetInterOpNumThreads              = 25
	ortCreateTensorWithDataAsOrtValue    = 49
	ortCreateCPUMemoryInfo               = 69
	ortReleaseEnv                        = 92
	ortReleaseStatus                     = 93
	ortReleaseMemoryInfo                 = 94
	ortReleaseSession                    = 95
	ortReleaseValue                      = 96
	ortReleaseSessionOptions             = 100
	ortFunctions                         = 101 // how many of them are looked at
	elementFloat, elementInt64           = 1, 7
	logErrors, optimizeAll, arena, plain = 3, 99, 0, 0
)

// ort is a loaded ONNX Runtime. Pointers of C are uintptr here; they are freed
// once, by whoever holds them, and never leave this package.
type ort struct {
	api *[ortFunctions]uintptr
	// env and memory live as long as the process's use of the model.
	env, memory uintptr
}

// openRuntime loads the shared object. It is never unloaded.
func openRuntime(path string) (*ort, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	symbol, err := purego.Dlsym(handle, "OrtGetApiBase")
	if err != nil || symbol == 0 {
		return nil, fmt.Errorf("loading %s: it has no OrtGetApiBase: is it ONNX Runtime?", path)
	}
	var getAPIBase func() unsafe.Pointer
	purego.RegisterFunc(&getAPIBase, symbol)
	base := (*[2]uintptr)(getAPIBase())
	if base == nil || base[0] == 0 {
		return nil, fmt.Errorf("loading %s: it has no interface", path)
	}
	var getAPI func(version uint32) unsafe.Pointer
	purego.RegisterFunc(&getAPI, base[0])
	r := &ort{api: (*[ortFunctions]uintptr)(getAPI(apiVersion))}
	if r.api == nil {
		return nil, fmt.Errorf("loading %s: it is older than version 1.%d", path, apiVersion)
	}
	name := []byte("callwarden\x00")
	if err := r.call(ortCreateEnv, logErrors, pointer(&name[0]), pointer(&r.env)); err != nil {
		return nil, err
	}
	if err := r.call(ortCreateCPUMemoryInfo, arena, plain, pointer(&r.memory)); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// pointer hands p to C for the time of a call in whose arguments it stands.
func pointer[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

// call calls a function that returns a status.
//
//go:uintptrescapes
func (r *ort) call(fn int, args ...uintptr) error {
	status, _, _ := purego.SyscallN(r.api[fn], args...)
	if status == 0 {
		return nil
	}
	var message func(status uintptr) string
	purego.RegisterFunc(&message, r.api[ortGetErrorMessage])
	err := errors.New("onnx runtime: " + message(status))
	r.release(ortReleaseStatus, status)
	return err
}

// release frees what C made, if it made it.
func (r *ort) release(fn int, p uintptr) {
	if p != 0 {
		purego.SyscallN(r.api[fn], p)
	}
}

func (r *ort) close() {
	r.release(ortReleaseMemoryInfo, r.memory)
	r.release(ortReleaseEnv, r.env)
	r.memory, r.env = 0, 0
}

// session reads a model; one thread runs it, the one that asks.
func (r *ort) session(model []byte) (session uintptr, err error) {
	var options uintptr
	if err := r.call(ortCreateSessionOptions, pointer(&options)); err != nil {
		return 0, err
	}
	defer func() { r.release(ortReleaseSessionOptions, options) }()
	for _, set := range [][2]int{
		{ortSetIntraOpNumThreads, 1}, {ortSetInterOpNumThreads, 1}, {ortSetSessionGraphOptimizationLevel, optimizeAll},
	} {
		if err := r.call(set[0], options, uintptr(set[1])); err != nil {
			return 0, err
		}
	}
	err = r.call(ortCreateSessionFromArray, r.env, pointer(&model[0]), uintptr(len(model)), options, pointer(&session))
	return session, err
}

// The model's shapes at 8 kHz: a window, led by the end of the one before; the
// two layers' state.
const (
	rateHz       = 8000
	windowLen    = 256
	contextLen   = 32
	stateLen     = 2 * 128
	inputs, outs = 3, 2
)

// seat is the memory of one run of the model, made once. C keeps pointers into
// it, so it is pinned for as long as it lives.
type seat struct {
	input  [contextLen + windowLen]float32
	state  [stateLen]float32
	rate   int64
	speech float32
	next   [stateLen]float32

	names        [inputs + outs][8]byte // "input\0" …
	inNames, ins [inputs]uintptr        // names and values of the inputs
	outNames, os [outs]uintptr          // and of the outputs
	pin          runtime.Pinner
}

// newSeat makes the tensors of a seat. A seat that is not whole is freed.
func (r *ort) newSeat() (*seat, error) {
	s := &seat{rate: rateHz}
	s.pin.Pin(s)
	tensor := func(data uintptr, bytes int, element uintptr, value *uintptr, shape ...int64) error {
		return r.call(ortCreateTensorWithDataAsOrtValue, r.memory, data, uintptr(bytes),
			pointer(&shape[0]), uintptr(len(shape)), element, pointer(value))
	}
	for i, name := range []string{"input", "state", "sr", "output", "stateN"} {
		copy(s.names[i][:], name)
		if i < inputs {
			s.inNames[i] = pointer(&s.names[i][0])
		} else {
			s.outNames[i-inputs] = pointer(&s.names[i][0])
		}
	}
	err := errors.Join(
		tensor(pointer(&s.input[0]), 4*len(s.input), elementFloat, &s.ins[0], 1, int64(len(s.input))),
		tensor(pointer(&s.state[0]), 4*len(s.state), elementFloat, &s.ins[1], 2, 1, 128),
		tensor(pointer(&s.rate), 8, elementInt64, &s.ins[2], 1),
		tensor(pointer(&s.speech), 4, elementFloat, &s.os[0], 1, 1),
		tensor(pointer(&s.next[0]), 4*len(s.next), elementFloat, &s.os[1], 2, 1, 128),
	)
	if err != nil {
		r.freeSeat(s)
		return nil, err
	}
	return s, nil
}

func (r *ort) freeSeat(s *seat) {
	for _, values := range [][]uintptr{s.ins[:], s.os[:]} {
		for i, v := range values {
			r.release(ortReleaseValue, v)
			values[i] = 0
		}
	}
	s.pin.Unpin()
}

// run runs the model on the seat's input.
func (r *ort) run(session uintptr, s *seat) error {
	return r.call(ortRun, session, 0, pointer(&s.inNames[0]), pointer(&s.ins[0]), inputs,
		pointer(&s.outNames[0]), outs, pointer(&s.os[0]))
}
