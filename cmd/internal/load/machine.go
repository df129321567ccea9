package load

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
)

// residentMB is the memory that this process holds, with what Go could give
// back given back; 0 where the system does not tell.
func residentMB() float64 {
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(data)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20)
}
