package benchmark

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// roleVariable makes a process one of the two kinds that a benchmark starts.
const roleVariable = "MDE_BENCHMARK_ROLE"

const (
	roleFar  = "far end"
	roleTask = "task"
)

// Main is the first thing that the main function of a benchmark calls: it takes
// over where this process is one that Listen or Run started, and then does not
// return.
func Main(ways []Way) {
	var err error
	switch os.Getenv(roleVariable) {
	case "":
		return
	case roleFar:
		err = serveFar(os.Stdin, os.Stdout)
	case roleTask:
		err = doTask(os.Stdin, os.Stdout, ways)
	default:
		err = errors.New("no such role")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func doTask(in io.Reader, out io.Writer, ways []Way) error {
	var task Task
	if err := json.NewDecoder(in).Decode(&task); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	cost, err := task.do(context.Background(), ways)
	if err != nil {
		cost.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(cost)
}

// Run does a task in a fresh process.
func Run(ctx context.Context, task Task) (c Cost, err error) {
	text, err := json.Marshal(task)
	if err != nil {
		return c, err
	}
	cmd, err := again(ctx, roleTask)
	if err != nil {
		return c, err
	}
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		return c, fmt.Errorf("%s: %w", task.Way, err)
	}
	if err := json.Unmarshal(out, &c); err != nil {
		return c, fmt.Errorf("%s: read its cost: %w", task.Way, err)
	}
	if c.Error != "" {
		return c, fmt.Errorf("%s: %s", task.Way, c.Error)
	}
	return c, nil
}

// again is this program, started once more in a role.
func again(ctx context.Context, role string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program) //nolint:gosec // It is this program.
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// processorTime is what this process has used so far, user and system.
func processorTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// PeakResident is the largest resident set of a process so far, in bytes, or 0
// where it is gone. The process is a number or "self".
func PeakResident(process string) int64 { return statusBytes(process, "VmHWM:") }

// Resident is the resident set of a process, in bytes.
func Resident(process string) int64 { return statusBytes(process, "VmRSS:") }

func statusBytes(process, field string) int64 {
	status, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), field)
	text, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kilobytes, _ := strconv.ParseInt(text, 10, 64)
	return kilobytes << 10
}
